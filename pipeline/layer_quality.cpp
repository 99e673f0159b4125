#include "pipeline/layer_quality.h"

#include <algorithm>
#include <cmath>

#include "core/dtype.h"
#include "core/fp4_rounding.h"
#include "kernels/codec.h"
#include "kernels/sgemm.h"
#include "quant/grid_rounding.h"
#include "sparsity/masks.h"

namespace pare {
namespace {

constexpr float kInt8Max = 127.0F;

std::optional<double> decibel(std::span<const float> wanted, std::span<const float> found) {
  double signal = 0;
  double noise = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const auto value = static_cast<double>(wanted[i]);
    const double error = value - static_cast<double>(found[i]);
    signal += value * value;
    noise += error * error;
  }
  if (noise <= 0) return std::nullopt;
  return 10 * std::log10(signal / noise);
}

}  // namespace

std::optional<double> measure_output(const CompressedWeight& weight, std::span<const float> wanted,
                                     std::span<const float> x) {
  const int64_t out = weight.out_features;
  const int64_t in = weight.in_features;
  const int64_t tokens = static_cast<int64_t>(x.size()) / in;
  if (tokens == 0) {
    std::vector<float> stored(wanted.size());
    dequantize_rows(weight, 0, out, stored);
    return decibel(wanted, stored);
  }
  std::vector<float> expected(static_cast<size_t>(tokens * out));
  sgemm({.m = tokens, .n = out, .k = in, .transpose_b = true, .lda = in, .ldb = in, .ldc = out},
        x.data(), wanted.data(), expected.data());
  CompressedWeight unscaled = weight;
  unscaled.pre_quant_scale.clear();
  const Linear compressed = Linear::compressed(unscaled, {}, Precision::kBf16);
  std::vector<float> found(static_cast<size_t>(padded_rows(tokens) * out));
  LinearInput input;
  compressed.prepare(x.data(), tokens, input);
  compressed.multiply(input, found.data());
  return decibel(expected, {found.data(), expected.size()});
}

std::vector<float> sampled_input(const SharingSet& set, bool scaled) {
  const InputStatistics& statistics = set.statistics;
  std::vector<float> x(statistics.sample.size());
  bf16_to_f32(statistics.sample, x);
  if (scaled || set.scale.empty()) return x;
  for (size_t i = 0; i < x.size(); ++i) x[i] *= set.scale[i % set.scale.size()];
  return x;
}

float input_scale_for(ActivationFormat activation, float amax) {
  switch (activation) {
    case ActivationFormat::kFp8Static:
      return symmetric_scale(amax, kE4m3Max);
    case ActivationFormat::kInt8Static:
      return symmetric_scale(amax, kInt8Max);
    case ActivationFormat::kNvfp4:
      return nvfp4_global_scale(amax);
    default:
      return 0;
  }
}

void store_on_grid(WeightGrid grid, std::span<const int8_t> codes, std::span<const uint8_t> keep,
                   CompressedWeight& weight) {
  weight.group_size = grid.group_size;
  weight.block_rows = grid.block_rows;
  weight.symmetric = grid.symmetric;
  weight.global_scale = grid.global_scale;
  weight.scale = std::move(grid.scale);
  if (weight.format == WeightFormat::kNvfp4) {
    for (float& scale : weight.scale) scale = nvfp4_scale(scale / grid.global_scale);
  }
  weight.zero_point = std::move(grid.zero_point);
  pack_codes(codes, keep, weight);
}

CompressedWeight round_to_nearest(const WorkingLinear& linear, const SharingSet& set,
                                  const QuantizeOptions& options, ThreadPool& pool) {
  const QFormat& format = *linear.plan.format;
  const int64_t out = linear.out_features;
  const int64_t in = linear.in_features;
  std::vector<float> weight = linear.weight;
  std::vector<float> amax = set.statistics.amax;
  if (!set.scale.empty()) {
    for (size_t i = 0; i < weight.size(); ++i) weight[i] /= set.scale[i % set.scale.size()];
    for (size_t i = 0; i < amax.size(); ++i) amax[i] *= set.scale[i];
  }
  CompressedWeight result;
  result.format = format.weight;
  result.activation = input_activation(format, options);
  result.out_features = out;
  result.in_features = in;
  result.sparse = linear.plan.sparsity != SparsityMethod::kNone;
  result.input_scale = input_scale_for(result.activation, absmax(amax));
  std::vector<uint8_t> keep;
  if (result.sparse) {
    keep = magnitude_mask(weight, out, in, pool);
    for (size_t i = 0; i < weight.size(); ++i) {
      if (keep[i] == 0) weight[i] = 0;
    }
  }
  if (!format.quantized) {
    std::vector<uint16_t> values(weight.size());
    f32_to_bf16(weight, values);
    pack_bf16_weight(values, keep, result);
    return result;
  }
  WeightGrid grid =
      absmax_grid(weight, out, in, with_global_scale(grid_spec(format, options), absmax(weight)));
  const std::vector<int8_t> codes = encode(grid, weight, pool);
  store_on_grid(std::move(grid), codes, keep, result);
  return result;
}

}  // namespace pare
