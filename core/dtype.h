// Element types of stored tensors, and the scalar conversions between them.
//
// The conversions here are the plain reference: one value at a time, rounding to nearest even.
// The vectorised ones in kernels/ are tested against them bit for bit.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace pare {

enum class DType : uint8_t {
  kF64,
  kF32,
  kF16,
  kBf16,
  kF8E4m3,
  kF8E5m2,
  kF8E8m0,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kBool,
};

/// Bytes of one element.
size_t dtype_size(DType dtype) noexcept;

/// Name in messages and checkpoints: "float32", "bfloat16", "float8_e4m3fn" …
std::string_view dtype_name(DType dtype) noexcept;

inline float bf16_to_f32(uint16_t bits) noexcept {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

/// Rounds to nearest even. NaN stays NaN (quiet), overflow becomes infinity.
inline uint16_t f32_to_bf16(float value) noexcept {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<uint16_t>((bits >> 16) | 0x0040U);
  return static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

/// The value of `value` after a round trip through bfloat16.
inline float round_to_bf16(float value) noexcept { return bf16_to_f32(f32_to_bf16(value)); }

float f16_to_f32(uint16_t bits) noexcept;

/// Rounds to nearest even, overflow becomes infinity.
uint16_t f32_to_f16(float value) noexcept;

/// Largest finite E4M3FN value.
inline constexpr float kE4m3Max = 448.0F;

/// OCP FP8 E4M3FN: sign, 4 exponent bits (bias 7), 3 mantissa bits; no infinity, NaN = 0x7F, 0xFF.
float e4m3_to_f32(uint8_t bits) noexcept;

/// Rounds to nearest even and saturates at ±448; NaN becomes 0x7F with the sign kept.
uint8_t f32_to_e4m3(float value) noexcept;

/// Largest E2M1 value.
inline constexpr float kE2m1Max = 6.0F;

/// OCP FP4 E2M1: sign in bit 3, then 0, 0.5, 1, 1.5, 2, 3, 4, 6. The upper nibble is ignored.
float e2m1_to_f32(uint8_t code) noexcept;

/// Rounds to nearest, ties to the even code, and saturates at ±6; NaN becomes 0, and so does what
/// rounds to −0.
uint8_t f32_to_e2m1(float value) noexcept;

/// OCP E8M0: 2^(bits − 127); 255 is NaN.
float e8m0_to_f32(uint8_t bits) noexcept;

/// The bits of a power of two from 2^-127 to 2^127. REQUIRES: it is one.
uint8_t f32_to_e8m0(float power) noexcept;

}  // namespace pare
