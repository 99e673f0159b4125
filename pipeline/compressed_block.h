// One block of the model after compression: everything that goes into the checkpoint for it.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/compressed_weight.h"
#include "core/tensor_view.h"
#include "formats/checkpoint_writer.h"
#include "formats/weight_source.h"
#include "model/block_runner.h"
#include "pare/quantize.h"

namespace pare {

/// A tensor that is stored densely, with its bytes.
struct DenseTensor {
  std::string name;
  DType dtype = DType::kBf16;
  Shape shape;
  std::vector<std::byte> bytes;

  TensorView view() const { return {dtype, shape, bytes}; }
};

/// Copies a stored tensor.
DenseTensor copy_dense(const WeightSource& source, const std::string& name);

/// Stores float values in the element type of a tensor (F32, F16 or BF16).
std::vector<std::byte> encode_values(const std::vector<float>& values, DType dtype);

struct CompressedBlock {
  std::vector<DenseTensor> dense;
  std::vector<std::pair<std::string, CompressedWeight>> compressed;  ///< "….weight"
  std::vector<LayerReport> layers;
  std::vector<std::string> warnings;
  std::vector<CacheReport> caches;
  std::optional<ExpertReport> expert;  ///< Where the block is an expert that was calibrated.
};

/// Writes the tensors of a block in the order of its operations.
void write_block(const BlockGraph& block, const CompressedBlock& tensors, CheckpointWriter& writer);

/// The block ready to run. What belongs to another block comes from `source`.
BlockWeights make_block_weights(const BlockGraph& block, const CompressedBlock& tensors,
                                const WeightSource& source, Precision precision);

/// Reads a block back from a checkpoint that holds it (without the reports).
CompressedBlock read_block(const BlockGraph& block, const WeightSource& source);

}  // namespace pare
