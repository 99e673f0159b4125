#include "quant/grid_rounding.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "core/dtype.h"
#include "kernels/codec.h"
#include "pare/error.h"
#include "quant/unit_rounding.h"

namespace pare {
namespace {

constexpr int32_t kMagnitudeMask = 0x7fffffff;

/// An integer that orders as the float does; NaN lies beyond the infinities.
int32_t ordered_bits(float value) {
  const int32_t bits = std::bit_cast<int32_t>(value);
  return bits ^ ((bits >> 31) & kMagnitudeMask);
}

float from_ordered_bits(int32_t ordered) {
  return std::bit_cast<float>(ordered ^ ((ordered >> 31) & kMagnitudeMask));
}

}  // namespace

ValueRange value_range(std::span<const float> values) {
  int32_t lowest = 0;
  int32_t highest = 0;
  for (const float value : values) {
    const int32_t bits = ordered_bits(value);
    lowest = bits < lowest ? bits : lowest;
    highest = bits > highest ? bits : highest;
  }
  const ValueRange range = {from_ordered_bits(lowest), from_ordered_bits(highest)};
  if (!std::isfinite(range.lowest) || !std::isfinite(range.highest)) {
    throw Error(ErrorCode::kNonFinite, "weight: NaN or infinity found, expected finite values");
  }
  return range;
}

RunScale scale_for_range(WeightFormat format, bool symmetric, const ValueRange& range) {
  const float absmax = std::max(-range.lowest, range.highest);
  if (!(absmax > 0)) return {};
  constexpr float kSmallest = std::numeric_limits<float>::min();
  if (symmetric) {
    const float steps = format == WeightFormat::kFp8E4m3 ? kE4m3Max
                        : format == WeightFormat::kInt8  ? 127.0F
                        : is_fp4(format)                 ? kE2m1Max
                                                         : 7.0F;
    return {std::max(absmax / steps, kSmallest), 0};
  }
  // Each bound is divided by itself: the difference of the largest floats would overflow.
  const float scale = std::max(range.highest / 15.0F - range.lowest / 15.0F, kSmallest);
  const float zero_point = std::nearbyint(std::clamp(-range.lowest / scale, 0.0F, 15.0F));
  return {scale, static_cast<uint8_t>(zero_point)};
}

GridSpec with_global_scale(GridSpec spec, float absmax) {
  if (spec.format == WeightFormat::kNvfp4) spec.global_scale = nvfp4_global_scale(absmax);
  return spec;
}

float stored_scale(WeightFormat format, float global_scale, float wanted) {
  if (format == WeightFormat::kNvfp4) return nvfp4_scale(wanted / global_scale) * global_scale;
  if (format != WeightFormat::kMxfp4) return wanted;
  int exponent = 0;
  const float mantissa = std::frexp(wanted, &exponent);  // 0.5 … 1
  // E8M0 holds 2^-127, but its reciprocal and its products would leave the normal numbers.
  return std::ldexp(1.0F, std::clamp(mantissa > 0.5F ? exponent : exponent - 1, -120, 120));
}

std::vector<float> fp4_scales(WeightFormat format, float global_scale, float absmax) {
  std::vector<float> scales;
  const float highest = stored_scale(format, global_scale, absmax / 4.0F);
  const float lowest = absmax / 12.0F;
  if (!(absmax > 0)) return {stored_scale(format, global_scale, global_scale)};
  if (format == WeightFormat::kMxfp4) {
    for (float scale = highest; scale >= lowest; scale *= 0.5F) scales.push_back(scale);
    // Beyond what the largest scale holds everything is clipped.
    if (scales.empty()) scales.push_back(highest);
    return scales;
  }
  // E4M3 codes of positive values count upwards with the value.
  for (uint8_t code = f32_to_e4m3(highest / global_scale); code > 0; --code) {
    const float scale = e4m3_to_f32(code) * global_scale;
    if (scale < lowest && !scales.empty()) break;
    scales.push_back(scale);
  }
  return scales;
}

void round_units(WeightFormat format, bool symmetric, const RunScale& run,
                 std::span<const float> weights, std::span<float> units) {
  const float inverse = 1.0F / run.scale;
  const size_t count = weights.size();
  const float* in = weights.data();
  float* out = units.data();
  if (format == WeightFormat::kFp8E4m3) {
    for (size_t i = 0; i < count; ++i) out[i] = e4m3_unit(in[i] * inverse);
    return;
  }
  if (is_fp4(format)) {
    for (size_t i = 0; i < count; ++i) out[i] = round_to_e2m1(in[i] * inverse);
    return;
  }
  const UnitBounds bounds = unit_bounds(format, symmetric, run.zero_point);
  for (size_t i = 0; i < count; ++i) out[i] = integer_unit(in[i] * inverse, bounds);
}

void round_values(WeightFormat format, bool symmetric, const RunScale& run,
                  std::span<const float> weights, std::span<float> values) {
  const float scale = run.scale;
  const float inverse = 1.0F / scale;
  const size_t count = weights.size();
  const float* in = weights.data();
  float* out = values.data();
  if (format == WeightFormat::kFp8E4m3) {
    for (size_t i = 0; i < count; ++i) out[i] = e4m3_unit(in[i] * inverse) * scale;
    return;
  }
  if (is_fp4(format)) {
    for (size_t i = 0; i < count; ++i) out[i] = round_to_e2m1(in[i] * inverse) * scale;
    return;
  }
  const UnitBounds bounds = unit_bounds(format, symmetric, run.zero_point);
  for (size_t i = 0; i < count; ++i) out[i] = integer_unit(in[i] * inverse, bounds) * scale;
}

void round_codes(WeightFormat format, bool symmetric, const RunScale& run,
                 std::span<const float> weights, std::span<int8_t> codes) {
  const float inverse = 1.0F / run.scale;
  const size_t count = weights.size();
  const float* in = weights.data();
  int8_t* out = codes.data();
  if (format == WeightFormat::kFp8E4m3) {
    for (size_t i = 0; i < count; ++i) {
      out[i] = static_cast<int8_t>(f32_to_e4m3(in[i] * inverse));
    }
    return;
  }
  if (is_fp4(format)) {
    for (size_t i = 0; i < count; ++i) {
      out[i] = static_cast<int8_t>(f32_to_e2m1(in[i] * inverse));
    }
    return;
  }
  const UnitBounds bounds = unit_bounds(format, symmetric, run.zero_point);
  const int32_t zero_point = run.zero_point;
  for (size_t i = 0; i < count; ++i) {
    const float unit = integer_unit(in[i] * inverse, bounds);
    out[i] = static_cast<int8_t>(static_cast<int32_t>(unit) + zero_point);
  }
}

int8_t unit_code(WeightFormat format, uint8_t zero_point, float unit) {
  if (format == WeightFormat::kFp8E4m3) return static_cast<int8_t>(f32_to_e4m3(unit));
  if (is_fp4(format)) return static_cast<int8_t>(f32_to_e2m1(unit));
  return static_cast<int8_t>(static_cast<int32_t>(unit) + zero_point);
}

float code_unit(WeightFormat format, uint8_t zero_point, int8_t code) {
  const auto bits = static_cast<uint8_t>(code);
  if (format == WeightFormat::kFp8E4m3) return e4m3_to_f32(bits);
  if (is_fp4(format)) return e2m1_to_f32(bits);
  return static_cast<float>(static_cast<int32_t>(code) - zero_point);
}

}  // namespace pare
