// Rounding to FP4 and to the scales of its blocks, without branches so that loops over it
// vectorise.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "core/dtype.h"

namespace pare {

/// Adding and subtracting 1.5 × 2^23 leaves the nearest integer, ties to even, for |x| < 2^22.
inline constexpr float kRoundingShift = 12582912.0F;

/// e2m1_to_f32(f32_to_e2m1(value)): the nearest of ±{0, 0.5, 1, 1.5, 2, 3, 4, 6}, ties to the even
/// code, saturating. REQUIRES: not NaN.
inline float round_to_e2m1(float value) noexcept {
  const float magnitude = std::min(std::abs(value), kE2m1Max);
  // The step doubles at 2 and at 4. Adding 1.5 × 2^23 steps leaves a whole number of them.
  const float step = magnitude < 2.0F ? 0.5F : magnitude < 4.0F ? 1.0F : 2.0F;
  const float shift = kRoundingShift * step;
  const float rounded = (magnitude + shift) - shift;
  return value < 0.0F ? 0.0F - rounded : rounded;
}

/// The scale of an NVFP4 block: the E4M3 value nearest to `wanted`, from 2^-9 to 448.
inline float nvfp4_scale(float wanted) noexcept {
  return std::max(e4m3_to_f32(f32_to_e4m3(wanted)), 0x1p-9F);
}

/// The scale of an MXFP4 block by OCP MX 1.0, section 6.3: 2^(floor(log2 absmax) − 2), so that
/// absmax / scale lies between 4 and 8 and what is above 6 saturates. REQUIRES: a normal number.
inline float mxfp4_floor_scale(float absmax) noexcept {
  const uint32_t exponent = std::bit_cast<uint32_t>(absmax) >> 23;
  return std::bit_cast<float>((std::max(exponent, 3U) - 2U) << 23);
}

}  // namespace pare
