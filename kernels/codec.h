// Packing and unpacking of weights: float to codes, codes to bytes, and back.
//
// Each function is vectorised for the processor it runs on (chosen at run time) and equals its
// plain reference in kernels/codec_reference.h bit for bit. All of them work on whole rows, never
// allocate, and are safe to call from several threads on different rows. They are bound by memory;
// bench/codec_bench.cpp prints their share of a memcpy.
//
// Rounding rule, everywhere: q = round_half_even(clamp(w × inverse_scale, lo, hi)) with
// inverse_scale = 1 / scale in float. For E4M3: saturating round to nearest even of
// w × inverse_scale. A NaN becomes the integer code 0 and the E4M3 code 0x7F with its sign; callers
// that must not lose one look at absmax first.
//
//   const float scale = symmetric_scale(absmax(weight), kE4m3Max);
//   if (!std::isfinite(scale)) ...
//   quantize_e4m3(weight, 1.0F / scale, codes);
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "core/compressed_weight.h"
#include "core/dtype.h"

namespace pare {

/// Largest magnitude of the values; NaN if any is NaN, infinity if any is infinite, so that one
/// finiteness test of the result covers all.
float absmax(std::span<const float> values);
float absmax_bf16(std::span<const uint16_t> values);

/// The scale absmax / divisor of a symmetric slice. Where that is not a normal float (all zeros, or
/// so small that its reciprocal would overflow) it is 1, and all codes come out as 0. NaN and
/// infinity pass through, for the caller's finiteness test.
inline float symmetric_scale(float absmax, float divisor) noexcept {
  const float scale = absmax / divisor;
  return scale < std::numeric_limits<float>::min() ? 1.0F : scale;
}

/// The factor that all block scales of an NVFP4 tensor or input have in common: one whose
/// reciprocal's reciprocal it is itself, since some files store that.
inline float nvfp4_global_scale(float absmax) noexcept {
  return 1.0F / (1.0F / symmetric_scale(absmax, kE4m3Max * kE2m1Max));
}

void bf16_to_f32(std::span<const uint16_t> in, std::span<float> out);
void f32_to_bf16(std::span<const float> in, std::span<uint16_t> out);

/// high[i] = bf16(in[i]), low[i] = bf16(in[i] − high[i]): their sum has 16 bits of precision.
void split_bf16(std::span<const float> in, std::span<uint16_t> high, std::span<uint16_t> low);

/// out[i] = e4m3(in[i] × inverse_scale), saturating.
void quantize_e4m3(std::span<const float> in, float inverse_scale, std::span<uint8_t> out);
void quantize_e4m3_bf16(std::span<const uint16_t> in, float inverse_scale, std::span<uint8_t> out);

/// out[i] = the bf16 bits of the E4M3 value (exact).
void e4m3_to_bf16(std::span<const uint8_t> in, std::span<uint16_t> out);

/// out[i] = int8 code in −127 … 127.
void quantize_int8(std::span<const float> in, float inverse_scale, std::span<int8_t> out);
void quantize_int8_bf16(std::span<const uint16_t> in, float inverse_scale, std::span<int8_t> out);

/// Scale and codes of one row in one go, while it is in the cache: the same codes as absmax,
/// symmetric_scale and quantize_int8 one after the other. Returns the scale; when it is not finite,
/// the codes are unspecified.
float scale_and_quantize_int8(std::span<const float> in, float divisor, std::span<int8_t> out);
float scale_and_quantize_int8_bf16(std::span<const uint16_t> in, float divisor,
                                   std::span<int8_t> out);

/// One row of symmetric INT4 in groups: codes −8 … 7, two a byte, low nibble first.
/// inverse_scale has ceil(in.size() / group_size) entries (group_size ≥ 1; a multiple of 2 except
/// when one group covers the row), out (in.size() + 1) / 2 bytes.
void quantize_int4_row(std::span<const float> in, int64_t group_size,
                       std::span<const float> inverse_scale, std::span<uint8_t> out);
void quantize_int4_row_bf16(std::span<const uint16_t> in, int64_t group_size,
                            std::span<const float> inverse_scale, std::span<uint8_t> out);

/// Scales and codes of one row in groups: the same codes as absmax, symmetric_scale and
/// quantize_int4_row one after the other. `scale` has ceil(in.size() / group_size) entries; where
/// one is not finite, the codes of its group are unspecified.
void scale_and_quantize_int4_row(std::span<const float> in, int64_t group_size, float divisor,
                                 std::span<float> scale, std::span<uint8_t> out);
void scale_and_quantize_int4_row_bf16(std::span<const uint16_t> in, int64_t group_size,
                                      float divisor, std::span<float> scale,
                                      std::span<uint8_t> out);

/// Codes given as one byte each (−8 … 7 or 0 … 15) to two a byte, low nibble first, and back.
/// `is_signed` tells whether a nibble is two's complement.
void pack_nibbles(std::span<const int8_t> codes, std::span<uint8_t> out);
void unpack_nibbles(std::span<const uint8_t> in, bool is_signed, std::span<int8_t> codes);

/// Splits a dense row of one-byte or two-byte codes and its 2:4 mask (keep[i] != 0, exactly two of
/// each four) into kept codes [in / 2] and mask nibbles (see CompressedWeight::mask_index).
/// Code is int8_t, uint8_t or uint16_t; expanding puts 0 at the pruned positions.
template <typename Code>
void compress_2_4_row(std::span<const Code> dense, std::span<const uint8_t> keep,
                      std::span<Code> kept, std::span<uint8_t> mask_index);
template <typename Code>
void expand_2_4_row(std::span<const Code> kept, std::span<const uint8_t> mask_index,
                    std::span<Code> dense);

/// Dequantizes rows [row_begin, row_end) to float, [rows, in_features], row-major, pruned entries
/// zero: exactly code × (scale × global_scale) in float. Does not apply pre_quant_scale.
void dequantize_rows(const CompressedWeight& weight, int64_t row_begin, int64_t row_end,
                     std::span<float> out);

/// The matrix that a bf16 product uses. kBf16 and kInt4: dequantized and rounded to bf16;
/// kFp8E4m3: the E4M3 values themselves, without the scale (exact in bf16); kInt8: dequantized and
/// rounded, for layers whose input is not quantized; FP4: code × scale without the global scale
/// (exact in bf16).
void expand_to_bf16(const CompressedWeight& weight, int64_t row_begin, int64_t row_end,
                    std::span<uint16_t> out);

/// One row of an input rounded to FP4, as ActivationFormat says, each value without the global
/// scale `input_scale` (kMxfp4: 1): code × scale of its block, exact in bf16. `values` in place.
void round_to_nvfp4_bf16(std::span<uint16_t> values, float input_scale);
void round_to_mxfp4_bf16(std::span<uint16_t> values);

/// INT8 codes with zeros at pruned positions, [rows, in_features]. REQUIRES: format == kInt8.
void expand_to_int8(const CompressedWeight& weight, int64_t row_begin, int64_t row_end,
                    std::span<int8_t> out);

/// Assembles a CompressedWeight from one-byte codes in dense layout: packs nibbles, and compresses
/// to 2:4 when `keep` ([out, in], exactly two of each four non-zero) is not empty. `weight` brings
/// format, sizes, scales and the rest; codes and mask_index are filled. For kBf16 use
/// pack_bf16_weight.
void pack_codes(std::span<const int8_t> codes, std::span<const uint8_t> keep,
                CompressedWeight& weight);
void pack_bf16_weight(std::span<const uint16_t> values, std::span<const uint8_t> keep,
                      CompressedWeight& weight);

}  // namespace pare
