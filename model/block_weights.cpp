#include "model/block_weights.h"

#include <cmath>
#include <cstring>

#include "formats/beside_source.h"
#include "model/block_parameters.h"
#include "model/cache_tensors.h"
#include "pare/error.h"

namespace pare {
namespace {

// [in, out] as it is stored → [out, in], element by element of any size.
std::vector<std::byte> transpose(const TensorView& stored) {
  const auto rows = static_cast<size_t>(stored.shape[0]);
  const auto columns = static_cast<size_t>(stored.shape[1]);
  const size_t size = dtype_size(stored.dtype);
  std::vector<std::byte> turned(stored.bytes.size());
  constexpr size_t kTile = 32;
  for (size_t row_tile = 0; row_tile < rows; row_tile += kTile) {
    for (size_t column_tile = 0; column_tile < columns; column_tile += kTile) {
      for (size_t row = row_tile; row < std::min(rows, row_tile + kTile); ++row) {
        for (size_t column = column_tile; column < std::min(columns, column_tile + kTile);
             ++column) {
          std::memcpy(turned.data() + (column * rows + row) * size,
                      stored.bytes.data() + (row * columns + column) * size, size);
        }
      }
    }
  }
  return turned;
}

// Mamba stores the logarithm of −A.
std::vector<float> negative_exp(std::vector<float> values) {
  for (float& value : values) value = -std::exp(value);
  return values;
}

void load_op(const BlockGraph& block, size_t index, const TensorLookup& tensors,
             Precision precision, BlockWeights& weights) {
  const Op& op = block.ops[index];
  const std::string name = block.full_name(op);
  switch (op.kind) {
    case OpKind::kNorm:
      if (op.norm.weight) {
        weights.weight[index] = load_vector(tensors, name + ".weight");
        for (float& value : weights.weight[index]) value += op.norm.weight_offset;
      }
      if (op.norm.bias) weights.bias[index] = load_vector(tensors, name + ".bias");
      return;
    case OpKind::kLinear:
      weights.linears[index] = load_linear(block, op, tensors, precision);
      if (op.linear.adapter_rank > 0) {
        const auto factor = [&](const std::string& suffix) {
          return Linear::dense(tensors.dense(name + suffix), name + suffix, {}, precision);
        };
        weights.adapters[index] = {factor(kLoraASuffix), factor(kLoraBSuffix)};
      }
      return;
    case OpKind::kAttention: {
      const AttentionSpec& spec = block.attentions[static_cast<size_t>(op.detail)];
      if (spec.sinks) weights.weight[index] = load_vector(tensors, name);
      if (!spec.relative_bias.table.empty()) {
        weights.table[index] = load_vector(tensors, spec.relative_bias.table);
      }
      if (spec.cache.format != CacheFormat::kNone) {
        weights.caches[index] = load_cache_format(block, op, tensors);
      }
      return;
    }
    case OpKind::kConvolution:
      weights.weight[index] = load_vector(tensors, name + ".weight");
      if (block.convolutions[static_cast<size_t>(op.detail)].bias) {
        weights.bias[index] = load_vector(tensors, name + ".bias");
      }
      return;
    case OpKind::kSelectiveScan:
    case OpKind::kStateSpaceScan:
      weights.weight[index] = negative_exp(load_vector(tensors, name + "A_log"));
      weights.skip[index] = load_vector(tensors, name + "D");
      if (op.kind == OpKind::kStateSpaceScan) {
        weights.bias[index] = load_vector(tensors, name + "dt_bias");
      }
      return;
    default:
      return;
  }
}

}  // namespace

std::vector<float> load_vector(const TensorLookup& tensors, const std::string& name) {
  std::vector<float> values = to_f32(tensors.dense(name), name);
  for (const float value : values) {
    if (!std::isfinite(value)) {
      throw Error(ErrorCode::kNonFinite,
                  tensors.file_of(name) + ": tensor \"" + name + "\" holds NaN or infinity");
    }
  }
  return values;
}

std::vector<float> load_vector(const WeightSource& source, const std::string& name) {
  return load_vector(SourceLookup(source), name);
}

std::vector<float> load_dense_weight(const BlockGraph& block, const Op& op,
                                     const TensorView& stored) {
  if (!op.linear.transposed) return to_f32(stored, block.full_name(op));
  const std::vector<std::byte> turned = transpose(stored);
  return to_f32({stored.dtype, {stored.shape[1], stored.shape[0]}, turned}, block.full_name(op));
}

namespace {

Linear load_in(Precision precision, const BlockGraph& block, const Op& op,
               const TensorLookup& tensors) {
  const std::string name = block.full_name(op) + ".weight";
  std::vector<float> bias;
  if (op.linear.bias) bias = load_vector(tensors, block.full_name(op) + ".bias");
  if (tensors.is_compressed(name)) {
    return Linear::compressed(tensors.compressed(name), std::move(bias), precision);
  }
  const TensorView stored = tensors.dense(name);
  if (!op.linear.transposed) return Linear::dense(stored, name, std::move(bias), precision);
  const std::vector<std::byte> turned = transpose(stored);
  return Linear::dense({stored.dtype, {stored.shape[1], stored.shape[0]}, turned}, name,
                       std::move(bias), precision);
}

}  // namespace

Linear load_linear(const BlockGraph& block, const Op& op, const TensorLookup& tensors,
                   Precision precision) {
  if (!op.linear.wide) return load_in(precision, block, op, tensors);
  Linear linear = load_in(Precision::kF32, block, op, tensors);
  linear.multiply_rows_apart();
  return linear;
}

Linear load_linear(const BlockGraph& block, const Op& op, const WeightSource& source,
                   Precision precision) {
  return load_linear(block, op, SourceLookup(source), precision);
}

BlockWeights load_block(const BlockGraph& block, const TensorLookup& tensors, Precision precision) {
  BlockWeights weights;
  weights.linears.resize(block.ops.size());
  weights.adapters.resize(block.ops.size());
  weights.weight.resize(block.ops.size());
  weights.bias.resize(block.ops.size());
  weights.skip.resize(block.ops.size());
  weights.table.resize(block.ops.size());
  weights.caches.resize(block.ops.size());
  for (size_t i = 0; i < block.ops.size(); ++i) load_op(block, i, tensors, precision, weights);
  if (block.experts && !block.experts->correction.empty()) {
    weights.correction = load_vector(tensors, block.prefix + block.experts->correction);
  }
  return weights;
}

BlockWeights load_block(const BlockGraph& block, const WeightSource& source, Precision precision) {
  BlockWeights weights = load_block(block, SourceLookup(source), precision);
  source.release(block_tensors(block));
  return weights;
}

}  // namespace pare
