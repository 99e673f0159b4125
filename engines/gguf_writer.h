// Writes a GGUF file whose tensors are made one after the other (formats/gguf_file.h has the
// layout), so that a model larger than memory can be written.
//
//   GgufMetadata metadata;
//   metadata.add("general.architecture", "llama");
//   write_gguf("out/model.gguf", metadata, pieces, pool, meter);
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/progress_meter.h"
#include "core/tensor_view.h"
#include "core/thread_pool.h"
#include "kernels/ggml_blocks.h"

namespace pare {

/// Keys and values in the order in which they are added, in the types that llama.cpp expects.
class GgufMetadata {
 public:
  void add(std::string_view key, std::string_view text);
  void add(std::string_view key, const char* text) { add(key, std::string_view(text)); }
  void add(std::string_view key, bool value);
  void add(std::string_view key, float value);
  /// As u32. Throws Error(kInputMalformed), naming the key, for what that does not hold.
  void add(std::string_view key, int64_t value);
  void add(std::string_view key, std::span<const std::string> texts);
  void add(std::string_view key, std::span<const int32_t> values);
  void add(std::string_view key, std::span<const float> values);

  uint64_t count() const noexcept { return count_; }
  const std::string& bytes() const noexcept { return bytes_; }

 private:
  void begin(std::string_view key, uint32_t type);
  template <typename Number>
  void put(Number number);
  void put_text(std::string_view text);

  std::string bytes_;
  uint64_t count_ = 0;
};

/// One tensor, made in parts of equal size: one, or one an expert. A part is made once, on any
/// thread.
struct GgufPiece {
  std::string name;
  const GgmlType* type = nullptr;
  Shape shape;  ///< Row-major: the slowest dimension first.
  std::vector<std::function<std::vector<std::byte>()>> parts;

  int64_t bytes() const { return element_count(shape) / type->block * type->bytes; }
};

/// As many parts are in memory at a time as there are threads; bytes do not depend on their number.
/// The meter advances by the bytes of each. Throws Error(kWriteFailed), Error(kInternal) when a
/// part has other bytes than said, and what the parts throw. The file is synced.
void write_gguf(const std::string& path, const GgufMetadata& metadata,
                std::span<const GgufPiece> pieces, ThreadPool& pool, ProgressMeter& meter);

}  // namespace pare
