// Rounding runs of weights that share one scale: the inner loops of every search.
//
// A weight is `unit × scale`, where unit is an integer (the code less its zero point), an E4M3 or
// an E2M1 value: unit = round_half_even(clamp(w × (1 / scale), lowest, highest)). Plain loops that
// the compiler vectorises. REQUIRES: finite weights.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "quant/weight_grid.h"

namespace pare {

/// Smallest and largest value of a run, zero included.
struct ValueRange {
  float lowest = 0;
  float highest = 0;
};

/// Throws Error(kNonFinite) when a value is NaN or infinite.
ValueRange value_range(std::span<const float> values);

/// Scale and zero point of one run of weights.
struct RunScale {
  float scale = 1;
  uint8_t zero_point = 0;
};

/// The scale that maps `range` onto the codes of the format: absmax / 7, 127, 448 or 6, or
/// (highest − lowest) / 15 with the zero point of `lowest`. Scale 1 for an empty range, and never
/// so small that 1 / scale overflows. For the FP4 formats it is still to be made one of theirs,
/// with stored_scale().
RunScale scale_for_range(WeightFormat format, bool symmetric, const ValueRange& range);

/// With the global scale that NVFP4 has for weights up to `absmax`, absmax / (6 × 448); other
/// formats have none.
GridSpec with_global_scale(GridSpec spec, float absmax);

/// The scale that the format can store for `wanted`: for NVFP4 the nearest E4M3 value times
/// `global_scale`, for MXFP4 the next power of two, so that nothing is clipped; others as wanted.
float stored_scale(WeightFormat format, float global_scale, float wanted);

/// Scales of an FP4 block that are worth trying, descending, all of them stored_scale()s: those
/// that map `absmax` to 4 … 12. NVFP4: the sweep over E4M3 values, which has "four over six" in it;
/// MXFP4: two or three powers of two.
std::vector<float> fp4_scales(WeightFormat format, float global_scale, float absmax);

/// Units of a run. `units` may be `weights`.
void round_units(WeightFormat format, bool symmetric, const RunScale& run,
                 std::span<const float> weights, std::span<float> units);

/// Values units × scale of a run. `values` may be `weights`.
void round_values(WeightFormat format, bool symmetric, const RunScale& run,
                  std::span<const float> weights, std::span<float> values);

/// One-byte codes of a run, as CompressedWeight stores them before packing.
void round_codes(WeightFormat format, bool symmetric, const RunScale& run,
                 std::span<const float> weights, std::span<int8_t> codes);

/// The code of a unit that round_units() returned, and back.
int8_t unit_code(WeightFormat format, uint8_t zero_point, float unit);
float code_unit(WeightFormat format, uint8_t zero_point, int8_t code);

/// Columns of a row that share a scale: the group size, or the whole row.
inline int64_t run_length(int64_t group_size, int64_t in_features) {
  return group_size > 0 ? group_size : in_features;
}

inline void set_run_scale(WeightGrid& grid, size_t index, const RunScale& run) {
  grid.scale[index] = run.scale;
  if (!grid.symmetric) grid.zero_point[index] = run.zero_point;
}

inline RunScale run_scale(const WeightGrid& grid, size_t index) {
  return {grid.scale[index], grid.symmetric ? uint8_t{0} : grid.zero_point[index]};
}

}  // namespace pare
