// Rounding runs of weights that share one scale: the inner loops of every search.
//
// A weight is `unit × scale`, where unit is an integer (the code less its zero point) or an E4M3
// value: unit = round_half_even(clamp(w × (1 / scale), lowest, highest)). Plain loops that the
// compiler vectorises. REQUIRES: finite weights.
#pragma once

#include <cstdint>
#include <span>

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

/// The scale that maps `range` onto the codes of the format: absmax / 7, 127 or 448, or
/// (highest − lowest) / 15 with the zero point of `lowest`. Scale 1 for an empty range, and never
/// so small that 1 / scale overflows.
RunScale scale_for_range(WeightFormat format, bool symmetric, const ValueRange& range);

/// Units of a run. `units` may be `weights`.
void round_units(WeightFormat format, bool symmetric, const RunScale& run,
                 std::span<const float> weights, std::span<float> units);

/// Values units × scale of a run. `values` may be `weights`.
void round_values(WeightFormat format, bool symmetric, const RunScale& run,
                  std::span<const float> weights, std::span<float> values);

/// One-byte codes of a run, as CompressedWeight stores them before packing.
void round_codes(WeightFormat format, bool symmetric, const RunScale& run,
                 std::span<const float> weights, std::span<int8_t> codes);

/// The code of a unit that round_units() returned.
int8_t unit_code(WeightFormat format, uint8_t zero_point, float unit);

/// Columns of a row that share a scale: the group size, or the whole row.
inline int64_t run_length(int64_t group_size, int64_t in_features) {
  return group_size > 0 ? group_size : in_features;
}

inline RunScale run_scale(const WeightGrid& grid, size_t index) {
  return {grid.scale[index], grid.symmetric ? uint8_t{0} : grid.zero_point[index]};
}

}  // namespace pare
