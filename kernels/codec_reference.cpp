#include "kernels/codec_reference.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "core/dtype.h"

namespace pare::reference {
namespace {

/// round_half_even(clamp(value, lo, hi)), 0 for NaN.
int8_t integer_code(float value, float lo, float hi) {
  if (std::isnan(value)) return 0;
  const float clamped = value < lo ? lo : value > hi ? hi : value;
  return static_cast<int8_t>(std::nearbyint(clamped));
}

std::vector<float> widen(std::span<const uint16_t> in) {
  std::vector<float> out(in.size());
  reference::bf16_to_f32(in, out);
  return out;
}

void set_nibble(std::span<uint8_t> out, size_t index, int8_t code) {
  uint8_t& byte = out[index / 2];
  const unsigned nibble = static_cast<unsigned>(code) & 15U;
  byte = static_cast<uint8_t>(index % 2 == 0 ? nibble : byte | (nibble << 4));
}

uint8_t get_nibble(std::span<const uint8_t> in, size_t index) {
  return index % 2 == 0 ? in[index / 2] & 15U : in[index / 2] >> 4;
}

/// Where the code of dense column `column` is stored in its row; −1 if it is pruned.
int64_t stored_position(const CompressedWeight& weight, int64_t row, int64_t column) {
  if (!weight.sparse) return column;
  const int64_t bytes = weight.mask_row_bytes();
  const auto mask = std::span(weight.mask_index)
                        .subspan(static_cast<size_t>(row * bytes), static_cast<size_t>(bytes));
  const int nibble = get_nibble(mask, static_cast<size_t>(column / 4));
  if (column % 4 == (nibble & 3)) return column / 4 * 2;
  if (column % 4 == (nibble >> 2)) return column / 4 * 2 + 1;
  return -1;
}

/// The dequantized weight of one element; without its scale if `scaled` is false. `global` is the
/// scale that all have in common.
float element(const CompressedWeight& weight, int64_t row, int64_t column, bool scaled,
              float global = 1.0F) {
  const int64_t position = stored_position(weight, row, column);
  if (position < 0) return 0;
  const auto codes = std::span(weight.codes)
                         .subspan(static_cast<size_t>(row * weight.row_bytes()),
                                  static_cast<size_t>(weight.row_bytes()));
  const auto index = static_cast<size_t>(position);
  const int64_t group = weight.group_size > 0 ? column / weight.group_size : 0;
  const size_t scale_index = weight.scale_index(row, group);
  const float scale = scaled && !weight.scale.empty() ? weight.scale[scale_index] * global : 1.0F;
  switch (weight.format) {
    case WeightFormat::kBf16:
      return pare::bf16_to_f32(static_cast<uint16_t>(codes[2 * index] | codes[2 * index + 1] << 8));
    case WeightFormat::kFp8E4m3:
      return e4m3_to_f32(codes[index]) * scale;
    case WeightFormat::kInt8:
      return static_cast<float>(static_cast<int8_t>(codes[index])) * scale;
    case WeightFormat::kInt4: {
      const int nibble = get_nibble(codes, index);
      if (weight.symmetric) return static_cast<float>(nibble >= 8 ? nibble - 16 : nibble) * scale;
      return static_cast<float>(nibble - weight.zero_point[scale_index]) * scale;
    }
    case WeightFormat::kNvfp4:
    case WeightFormat::kMxfp4:
      // Adding 0 makes a −0, which other tools write, the zero of all other formats.
      return (e2m1_to_f32(static_cast<uint8_t>(get_nibble(codes, index))) + 0.0F) * scale;
  }
  return 0;
}

}  // namespace

float absmax(std::span<const float> values) {
  float result = 0;
  for (const float value : values) {
    if (std::isnan(value)) return std::numeric_limits<float>::quiet_NaN();
    result = std::fmax(result, std::fabs(value));
  }
  return result;
}

float absmax_bf16(std::span<const uint16_t> values) { return reference::absmax(widen(values)); }

void bf16_to_f32(std::span<const uint16_t> in, std::span<float> out) {
  for (size_t i = 0; i < in.size(); ++i) out[i] = pare::bf16_to_f32(in[i]);
}

void f32_to_bf16(std::span<const float> in, std::span<uint16_t> out) {
  for (size_t i = 0; i < in.size(); ++i) out[i] = pare::f32_to_bf16(in[i]);
}

void split_bf16(std::span<const float> in, std::span<uint16_t> high, std::span<uint16_t> low) {
  for (size_t i = 0; i < in.size(); ++i) {
    high[i] = pare::f32_to_bf16(in[i]);
    low[i] = pare::f32_to_bf16(in[i] - pare::bf16_to_f32(high[i]));
  }
}

void quantize_e4m3(std::span<const float> in, float inverse_scale, std::span<uint8_t> out) {
  for (size_t i = 0; i < in.size(); ++i) out[i] = f32_to_e4m3(in[i] * inverse_scale);
}

void quantize_e4m3_bf16(std::span<const uint16_t> in, float inverse_scale, std::span<uint8_t> out) {
  reference::quantize_e4m3(widen(in), inverse_scale, out);
}

void e4m3_to_bf16(std::span<const uint8_t> in, std::span<uint16_t> out) {
  for (size_t i = 0; i < in.size(); ++i) out[i] = pare::f32_to_bf16(e4m3_to_f32(in[i]));
}

void quantize_int8(std::span<const float> in, float inverse_scale, std::span<int8_t> out) {
  for (size_t i = 0; i < in.size(); ++i) out[i] = integer_code(in[i] * inverse_scale, -127, 127);
}

void quantize_int8_bf16(std::span<const uint16_t> in, float inverse_scale, std::span<int8_t> out) {
  reference::quantize_int8(widen(in), inverse_scale, out);
}

float scale_and_quantize_int8(std::span<const float> in, float divisor, std::span<int8_t> out) {
  const float scale = symmetric_scale(reference::absmax(in), divisor);
  reference::quantize_int8(in, 1.0F / scale, out);
  return scale;
}

float scale_and_quantize_int8_bf16(std::span<const uint16_t> in, float divisor,
                                   std::span<int8_t> out) {
  return reference::scale_and_quantize_int8(widen(in), divisor, out);
}

void quantize_int4_row(std::span<const float> in, int64_t group_size,
                       std::span<const float> inverse_scale, std::span<uint8_t> out) {
  for (size_t i = 0; i < in.size(); ++i) {
    const float inverse = inverse_scale[i / static_cast<size_t>(group_size)];
    set_nibble(out, i, integer_code(in[i] * inverse, -8, 7));
  }
}

void quantize_int4_row_bf16(std::span<const uint16_t> in, int64_t group_size,
                            std::span<const float> inverse_scale, std::span<uint8_t> out) {
  reference::quantize_int4_row(widen(in), group_size, inverse_scale, out);
}

void scale_and_quantize_int4_row(std::span<const float> in, int64_t group_size, float divisor,
                                 std::span<float> scale, std::span<uint8_t> out) {
  std::vector<float> inverse(scale.size());
  const auto step = static_cast<size_t>(group_size);
  for (size_t group = 0; group < scale.size(); ++group) {
    const size_t begin = group * step;
    const size_t size = in.size() - begin < step ? in.size() - begin : step;
    scale[group] = symmetric_scale(reference::absmax(in.subspan(begin, size)), divisor);
    inverse[group] = 1.0F / scale[group];
  }
  reference::quantize_int4_row(in, group_size, inverse, out);
}

void scale_and_quantize_int4_row_bf16(std::span<const uint16_t> in, int64_t group_size,
                                      float divisor, std::span<float> scale,
                                      std::span<uint8_t> out) {
  reference::scale_and_quantize_int4_row(widen(in), group_size, divisor, scale, out);
}

void pack_nibbles(std::span<const int8_t> codes, std::span<uint8_t> out) {
  for (size_t i = 0; i < codes.size(); ++i) set_nibble(out, i, codes[i]);
}

void unpack_nibbles(std::span<const uint8_t> in, bool is_signed, std::span<int8_t> codes) {
  for (size_t i = 0; i < codes.size(); ++i) {
    const int nibble = get_nibble(in, i);
    codes[i] = static_cast<int8_t>(is_signed && nibble >= 8 ? nibble - 16 : nibble);
  }
}

template <typename Code>
void compress_2_4_row(std::span<const Code> dense, std::span<const uint8_t> keep,
                      std::span<Code> kept, std::span<uint8_t> mask_index) {
  size_t stored = 0;
  for (size_t group = 0; group < dense.size() / 4; ++group) {
    unsigned nibble = 0;
    for (unsigned i = 0; i < 4; ++i) {
      if (keep[group * 4 + i] == 0) continue;
      kept[stored] = dense[group * 4 + i];
      nibble |= stored % 2 == 0 ? i : i << 2;
      ++stored;
    }
    set_nibble(mask_index, group, static_cast<int8_t>(nibble));
  }
}

template <typename Code>
void expand_2_4_row(std::span<const Code> kept, std::span<const uint8_t> mask_index,
                    std::span<Code> dense) {
  for (size_t i = 0; i < dense.size(); ++i) {
    const unsigned nibble = get_nibble(mask_index, i / 4);
    dense[i] = 0;
    if (i % 4 == (nibble & 3)) dense[i] = kept[i / 4 * 2];
    if (i % 4 == (nibble >> 2)) dense[i] = kept[i / 4 * 2 + 1];
  }
}

template void compress_2_4_row(std::span<const int8_t>, std::span<const uint8_t>, std::span<int8_t>,
                               std::span<uint8_t>);
template void compress_2_4_row(std::span<const uint8_t>, std::span<const uint8_t>,
                               std::span<uint8_t>, std::span<uint8_t>);
template void compress_2_4_row(std::span<const uint16_t>, std::span<const uint8_t>,
                               std::span<uint16_t>, std::span<uint8_t>);
template void expand_2_4_row(std::span<const int8_t>, std::span<const uint8_t>, std::span<int8_t>);
template void expand_2_4_row(std::span<const uint8_t>, std::span<const uint8_t>,
                             std::span<uint8_t>);
template void expand_2_4_row(std::span<const uint16_t>, std::span<const uint8_t>,
                             std::span<uint16_t>);

void dequantize_rows(const CompressedWeight& weight, int64_t row_begin, int64_t row_end,
                     std::span<float> out) {
  size_t i = 0;
  for (int64_t row = row_begin; row < row_end; ++row) {
    for (int64_t column = 0; column < weight.in_features; ++column) {
      out[i++] = element(weight, row, column, true, weight.global_scale);
    }
  }
}

void expand_to_bf16(const CompressedWeight& weight, int64_t row_begin, int64_t row_end,
                    std::span<uint16_t> out) {
  const bool scaled = weight.format != WeightFormat::kFp8E4m3;
  size_t i = 0;
  for (int64_t row = row_begin; row < row_end; ++row) {
    for (int64_t column = 0; column < weight.in_features; ++column) {
      out[i++] = pare::f32_to_bf16(element(weight, row, column, scaled));
    }
  }
}

void round_to_nvfp4_bf16(std::span<uint16_t> values, float input_scale) {
  for (size_t first = 0; first < values.size(); first += 16) {
    const auto block = values.subspan(first, std::min<size_t>(16, values.size() - first));
    float amax = 0;
    for (const uint16_t value : block) amax = std::max(amax, std::abs(pare::bf16_to_f32(value)));
    const float wanted = amax * (1.0F / (6.0F * input_scale));
    const float scale = std::clamp(e4m3_to_f32(f32_to_e4m3(wanted)), 0x1p-9F, 448.0F);
    const float inverse = 1.0F / (scale * input_scale);
    for (uint16_t& value : block) {
      const uint8_t code = f32_to_e2m1(pare::bf16_to_f32(value) * inverse);
      value = amax < 0x1p-126F ? uint16_t{0} : pare::f32_to_bf16(e2m1_to_f32(code) * scale);
    }
  }
}

void round_to_mxfp4_bf16(std::span<uint16_t> values) {
  for (size_t first = 0; first < values.size(); first += 32) {
    const auto block = values.subspan(first, std::min<size_t>(32, values.size() - first));
    float amax = 0;
    for (const uint16_t value : block) amax = std::max(amax, std::abs(pare::bf16_to_f32(value)));
    const int exponent = amax < 0x1p-126F ? 0 : std::max(std::ilogb(amax), -124) - 2;
    const float scale = std::ldexp(1.0F, exponent);
    for (uint16_t& value : block) {
      const uint8_t code = f32_to_e2m1(pare::bf16_to_f32(value) / scale);
      value = amax < 0x1p-126F ? uint16_t{0} : pare::f32_to_bf16(e2m1_to_f32(code) * scale);
    }
  }
}

void expand_to_int8(const CompressedWeight& weight, int64_t row_begin, int64_t row_end,
                    std::span<int8_t> out) {
  size_t i = 0;
  for (int64_t row = row_begin; row < row_end; ++row) {
    for (int64_t column = 0; column < weight.in_features; ++column) {
      out[i++] = static_cast<int8_t>(element(weight, row, column, false));
    }
  }
}

}  // namespace pare::reference
