// A GGUF file: its metadata, and where its tensors are.
//
//   "GGUF", u32 version 2 or 3, u64 tensors, u64 keys
//   keys:     string name, u32 type, value        (a string: u64 length, bytes)
//   tensors:  string name, u32 dimensions, u64 each (the fastest first), u32 type, u64 offset
//   padding to general.alignment (32), then the data; offsets count from there
//
// Everything is checked when the file is opened: lengths and counts against the bytes that are
// left, offsets against each other and the end of the file. Read-only, owns the mapping, safe to
// use from several threads.
//
// Specification: docs/gguf.md of the ggml project.
//
//   const GgufFile file("model.gguf");
//   const std::string& architecture = file.text("general.architecture");
//   const GgufTensor* tensor = file.find("token_embd.weight");
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/tensor_view.h"
#include "formats/mapped_file.h"
#include "kernels/ggml_blocks.h"

namespace pare {

/// Whether the bytes begin as a GGUF file does.
bool has_gguf_signature(std::span<const std::byte> bytes) noexcept;

/// A value of the metadata. Integers of all widths are one kind; arrays are of one kind.
using GgufValue = std::variant<int64_t, uint64_t, double, bool, std::string, std::vector<int64_t>,
                               std::vector<double>, std::vector<bool>, std::vector<std::string>>;

struct GgufTensor {
  std::string name;
  const GgmlType* type = nullptr;
  Shape shape;  ///< Row-major: the slowest dimension first. At most four.
  std::span<const std::byte> bytes;

  int64_t row_elements() const { return shape.back(); }
  /// Product of all dimensions but the last.
  int64_t rows() const { return element_count(shape) / row_elements(); }
  int64_t row_bytes() const { return row_elements() / type->block * type->bytes; }
};

class GgufFile {
 public:
  /// Throws Error(kInputMissing) when the file cannot be read, Error(kInputMalformed), naming file
  /// and key or tensor, when it is damaged, a part of a split model, or has a tensor of a type that
  /// is not known.
  explicit GgufFile(const std::string& path);

  const std::string& path() const noexcept { return file_.path(); }
  const std::map<std::string, GgufValue>& values() const noexcept { return values_; }
  const std::vector<GgufTensor>& tensors() const noexcept { return tensors_; }  ///< As in the file.
  const GgufTensor* find(std::string_view name) const;
  int64_t alignment() const noexcept { return alignment_; }
  int64_t data_begin() const noexcept { return data_begin_; }

  bool has(const std::string& key) const { return values_.contains(key); }

  /// Typed access. Those that return no optional throw Error(kInputMalformed), naming file and key,
  /// when it is missing; all throw when it is of another kind.
  const std::string& text(const std::string& key) const;
  std::optional<int64_t> find_integer(const std::string& key) const;
  std::optional<double> find_number(const std::string& key) const;  ///< Integers too; finite.
  std::optional<bool> find_boolean(const std::string& key) const;
  const std::string* find_text(const std::string& key) const;
  const std::vector<std::string>* find_texts(const std::string& key) const;
  const std::vector<int64_t>* find_integers(const std::string& key) const;
  const std::vector<double>* find_numbers(const std::string& key) const;

  /// The system may forget the bytes.
  void release(std::span<const std::byte> bytes) const noexcept { file_.release(bytes); }

  /// Throws Error(kInputMalformed): "PATH: WHAT".
  [[noreturn]] void fail(const std::string& what) const;

 private:
  template <typename Kind>
  const Kind* find_value(const std::string& key, const char* kind) const;

  MappedFile file_;
  std::map<std::string, GgufValue> values_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  int64_t alignment_ = 32;
  int64_t data_begin_ = 0;
};

}  // namespace pare
