// The scalar steps of grid rounding, written without branches so that loops over them vectorise.
#pragma once

#include <bit>
#include <cstdint>

#include "core/dtype.h"
#include "core/fp4_rounding.h"
#include "quant/weight_grid.h"

namespace pare {

/// As kRoundingShift, for multiples of 2^-9, the step of E4M3 below 2^-6.
inline constexpr float kE4m3Shift = kRoundingShift * 0x1p-9F;

/// Range of the units of an integer format: codes less the zero point.
struct UnitBounds {
  float lowest = 0;
  float highest = 0;
};

inline UnitBounds unit_bounds(WeightFormat format, bool symmetric, uint8_t zero_point) {
  if (format == WeightFormat::kInt8) return {-127.0F, 127.0F};
  if (symmetric) return {-8.0F, 7.0F};
  const auto zero = static_cast<float>(zero_point);
  return {-zero, 15.0F - zero};
}

/// Half a step beyond the range of the units of any format: what lies outside is clipped.
inline UnitBounds clip_bounds(WeightFormat format, bool symmetric, uint8_t zero_point) {
  if (format == WeightFormat::kFp8E4m3) return {-464.0F, 464.0F};
  if (is_fp4(format)) return {-7.0F, 7.0F};
  const UnitBounds bounds = unit_bounds(format, symmetric, zero_point);
  return {bounds.lowest - 0.5F, bounds.highest + 0.5F};
}

/// round_half_even(clamp(scaled, lowest, highest)).
inline float integer_unit(float scaled, const UnitBounds& bounds) {
  const float above = scaled > bounds.lowest ? scaled : bounds.lowest;
  const float inside = above < bounds.highest ? above : bounds.highest;
  return (inside + kRoundingShift) - kRoundingShift;
}

/// The E4M3 value nearest to `scaled`, saturating: e4m3_to_f32(f32_to_e4m3(scaled)).
inline float e4m3_unit(float scaled) {
  constexpr int32_t kMagnitudeMask = 0x7fffffff;
  constexpr int32_t kSmallestNormal = 0x3c800000;  // 2^-6
  const int32_t bits = std::bit_cast<int32_t>(scaled);
  const int32_t magnitude = bits & kMagnitudeMask;
  const int32_t sign = bits & ~kMagnitudeMask;
  // Three mantissa bits remain: round the other 20 to nearest even.
  const uint32_t even = (static_cast<uint32_t>(magnitude) >> 20) & 1U;
  const auto rounded =
      static_cast<int32_t>((static_cast<uint32_t>(magnitude) + 0x7ffffU + even) & 0xfff00000U);
  // The first test is on the input: rounding a huge magnitude overflows the integer.
  const int32_t largest = std::bit_cast<int32_t>(kE4m3Max);
  const int32_t normal = magnitude >= largest || rounded > largest ? largest : rounded;
  const float small = (std::bit_cast<float>(magnitude) + kE4m3Shift) - kE4m3Shift;
  const int32_t result = magnitude < kSmallestNormal ? std::bit_cast<int32_t>(small) : normal;
  return std::bit_cast<float>(result | sign);
}

/// Which of the roundings above a format takes.
enum class UnitKind : uint8_t { kInteger, kE4m3, kE2m1 };

inline UnitKind unit_kind(WeightFormat format) {
  if (format == WeightFormat::kFp8E4m3) return UnitKind::kE4m3;
  return is_fp4(format) ? UnitKind::kE2m1 : UnitKind::kInteger;
}

inline float round_unit(UnitKind kind, float scaled, const UnitBounds& bounds) {
  if (kind == UnitKind::kInteger) return integer_unit(scaled, bounds);
  return kind == UnitKind::kE4m3 ? e4m3_unit(scaled) : round_to_e2m1(scaled);
}

}  // namespace pare
