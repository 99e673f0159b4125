// Writes safetensors files whose tensors are made one after the other, so that a model larger than
// memory can be written.
//
// All names, element types and shapes are known before the first byte: the headers are written
// first, and each piece then goes to its place. Bytes do not depend on the number of threads.
//
//   std::vector<TensorPiece> pieces = …;
//   write_pieces("out/model.safetensors", pieces, {{"format", "pt"}}, pool, meter);
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/progress_meter.h"
#include "core/tensor_view.h"
#include "core/thread_pool.h"

namespace pare {

struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;

  int64_t bytes() const { return element_count(shape) * static_cast<int64_t>(dtype_size(dtype)); }
};

/// Tensors that are made together. `make` gives the bytes of each, in their order; it is called
/// once, on any thread.
struct TensorPiece {
  std::vector<TensorSpec> tensors;
  std::function<std::vector<std::vector<std::byte>>()> make;

  int64_t bytes() const;
};

/// One file. As many pieces are in memory at a time as there are threads. The meter advances by the
/// bytes of each. Throws Error(kWriteFailed), Error(kInternal) when a piece makes other sizes than
/// it said or a name occurs twice, and what `make` throws. The file is not synced: its folder is an
/// OutputFolder's.
void write_pieces(const std::string& path, std::span<const TensorPiece> pieces,
                  const std::map<std::string, std::string>& metadata, ThreadPool& pool,
                  ProgressMeter& meter);

/// A Hugging Face folder's weights: model.safetensors, or where that would be larger than
/// `shard_bytes` files model-00001-of-00002.safetensors … with model.safetensors.index.json. A
/// piece is not cut. Returns the names of the files.
std::vector<std::string> write_shards(const std::string& folder,
                                      std::span<const TensorPiece> pieces, int64_t shard_bytes,
                                      ThreadPool& pool, ProgressMeter& meter);

}  // namespace pare
