// Plain versions of kernels/codec.h: one element at a time, with the scalar conversions of
// core/dtype.h. The vectorised functions equal these bit for bit; nothing but tests should call
// them.
//
// Same signatures, same meaning, same thread-safety.
//
//   reference::quantize_int8(row, inverse_scale, expected);
#pragma once

#include <cstdint>
#include <span>

#include "core/compressed_weight.h"
#include "kernels/codec.h"

namespace pare::reference {

float absmax(std::span<const float> values);
float absmax_bf16(std::span<const uint16_t> values);

void bf16_to_f32(std::span<const uint16_t> in, std::span<float> out);
void f32_to_bf16(std::span<const float> in, std::span<uint16_t> out);
void split_bf16(std::span<const float> in, std::span<uint16_t> high, std::span<uint16_t> low);

void quantize_e4m3(std::span<const float> in, float inverse_scale, std::span<uint8_t> out);
void quantize_e4m3_bf16(std::span<const uint16_t> in, float inverse_scale, std::span<uint8_t> out);
void e4m3_to_bf16(std::span<const uint8_t> in, std::span<uint16_t> out);

void quantize_int8(std::span<const float> in, float inverse_scale, std::span<int8_t> out);
void quantize_int8_bf16(std::span<const uint16_t> in, float inverse_scale, std::span<int8_t> out);
float scale_and_quantize_int8(std::span<const float> in, float divisor, std::span<int8_t> out);
float scale_and_quantize_int8_bf16(std::span<const uint16_t> in, float divisor,
                                   std::span<int8_t> out);

void quantize_int4_row(std::span<const float> in, int64_t group_size,
                       std::span<const float> inverse_scale, std::span<uint8_t> out);
void quantize_int4_row_bf16(std::span<const uint16_t> in, int64_t group_size,
                            std::span<const float> inverse_scale, std::span<uint8_t> out);
void scale_and_quantize_int4_row(std::span<const float> in, int64_t group_size, float divisor,
                                 std::span<float> scale, std::span<uint8_t> out);
void scale_and_quantize_int4_row_bf16(std::span<const uint16_t> in, int64_t group_size,
                                      float divisor, std::span<float> scale,
                                      std::span<uint8_t> out);

void pack_nibbles(std::span<const int8_t> codes, std::span<uint8_t> out);
void unpack_nibbles(std::span<const uint8_t> in, bool is_signed, std::span<int8_t> codes);

template <typename Code>
void compress_2_4_row(std::span<const Code> dense, std::span<const uint8_t> keep,
                      std::span<Code> kept, std::span<uint8_t> mask_index);
template <typename Code>
void expand_2_4_row(std::span<const Code> kept, std::span<const uint8_t> mask_index,
                    std::span<Code> dense);

void dequantize_rows(const CompressedWeight& weight, int64_t row_begin, int64_t row_end,
                     std::span<float> out);
void expand_to_bf16(const CompressedWeight& weight, int64_t row_begin, int64_t row_end,
                    std::span<uint16_t> out);
void round_to_nvfp4_bf16(std::span<uint16_t> values, float input_scale);
void round_to_mxfp4_bf16(std::span<uint16_t> values);
void expand_to_int8(const CompressedWeight& weight, int64_t row_begin, int64_t row_end,
                    std::span<int8_t> out);

}  // namespace pare::reference
