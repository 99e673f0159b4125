// The set of values that a quantized weight can take: its format, scales and zero points.
//
// A grid decides numbers, not bytes; kernels/codec.h packs them. Rounding follows kernels/codec.h:
// round_half_even(clamp(w × (1 / scale))).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/compressed_weight.h"
#include "core/thread_pool.h"

namespace pare {

struct ValueRange;
struct RunScale;

struct WeightGrid {
  WeightFormat format = WeightFormat::kInt4;
  int64_t out_features = 0;
  int64_t in_features = 0;
  int64_t group_size = kPerChannel;  ///< As CompressedWeight::group_size.
  int64_t block_rows = 1;            ///< As CompressedWeight::block_rows.
  bool symmetric = true;
  float global_scale = 1;    ///< NVFP4: all scales are E4M3 values times this.
  std::vector<float> scale;  ///< [1], [out] or [blocks of rows, groups]; positive and finite.
  std::vector<uint8_t> zero_point;  ///< [out, groups] when not symmetric.

  int64_t groups() const noexcept {
    return group_size > 0 ? (in_features + group_size - 1) / group_size : 1;
  }
  size_t scale_index(int64_t row, int64_t column) const noexcept {
    if (group_size == kPerTensor) return 0;
    if (group_size == kPerChannel) return static_cast<size_t>(row);
    return static_cast<size_t>(row / block_rows * groups() + column / group_size);
  }
};

/// What to build a grid for.
struct GridSpec {
  WeightFormat format = WeightFormat::kInt4;
  int64_t group_size = kPerChannel;
  bool symmetric = true;
  int64_t block_rows = 1;
  float global_scale = 1;
};

/// The code of one value, as CompressedWeight stores it in one byte, and its dequantized value.
struct GridValue {
  int8_t code = 0;
  float value = 0;
};
GridValue round_to_grid(const WeightGrid& grid, int64_t row, int64_t column, float weight) noexcept;

/// Sets scale (and zero point) of group `group` of row `row` from the largest magnitude
/// (symmetric: absmax / 7, 127, 448 or 6) or the range including zero (asymmetric: (max − min) /
/// 15) of `values`. An all-zero group gets scale 1.
void fit_group_absmax(WeightGrid& grid, int64_t row, int64_t group, std::span<const float> values);

/// The scale of `range` in this grid: scale_for_range(), as the format stores it.
RunScale fit_range(const WeightGrid& grid, const ValueRange& range);

/// A grid with all scales 1. Throws Error(kUsage) for zero points where there are none, and
/// Error(kInternal) for a shape that does not fit.
WeightGrid empty_grid(std::span<const float> weight, int64_t out_features, int64_t in_features,
                      const GridSpec& spec);

/// Plain absmax grid of `weight` [out, in]. kPerTensor takes the absmax over the whole weight.
WeightGrid absmax_grid(std::span<const float> weight, int64_t out_features, int64_t in_features,
                       const GridSpec& spec);

/// One-byte codes of all weights, [out, in]; see pack_codes() for what follows.
std::vector<int8_t> encode(const WeightGrid& grid, std::span<const float> weight, ThreadPool& pool);

/// Weights beyond the largest or smallest value of their scale by more than half a step: what a
/// clipped range costs them is more than rounding.
int64_t count_clipped(const WeightGrid& grid, std::span<const float> weight);

/// weight → round_to_grid(weight).value for all weights.
std::vector<float> round_trip(const WeightGrid& grid, std::span<const float> weight,
                              ThreadPool& pool);

}  // namespace pare
