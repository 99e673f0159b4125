#include "kernels/ggml_blocks.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/dtype.h"
#include "kernels/engine_layouts.h"

namespace pare {
namespace {

constexpr int64_t kSuperBlock = 256;

using Bytes = const uint8_t*;

uint16_t load_u16(Bytes bytes) { return static_cast<uint16_t>(bytes[0] | bytes[1] << 8); }

float load_f16(Bytes bytes) { return f16_to_f32(load_u16(bytes)); }

void store_u16(uint16_t value, std::byte* bytes) {
  bytes[0] = static_cast<std::byte>(value & 0xffU);
  bytes[1] = static_cast<std::byte>(value >> 8);
}

// Bit `bit` of a little-endian field.
int bit_of(Bytes field, int bit) { return field[bit / 8] >> (bit % 8) & 1; }

void decode_f32(Bytes block, float* values) { std::memcpy(values, block, sizeof(float)); }
void decode_f16(Bytes block, float* values) { *values = load_f16(block); }
void decode_bf16(Bytes block, float* values) { *values = bf16_to_f32(load_u16(block)); }

void decode_q4_0(Bytes block, float* values) {
  const float scale = load_f16(block);
  for (int i = 0; i < 16; ++i) {
    values[i] = static_cast<float>((block[2 + i] & 15) - 8) * scale;
    values[i + 16] = static_cast<float>((block[2 + i] >> 4) - 8) * scale;
  }
}

void decode_q4_1(Bytes block, float* values) {
  const float scale = load_f16(block);
  const float minimum = load_f16(block + 2);
  for (int i = 0; i < 16; ++i) {
    values[i] = static_cast<float>(block[4 + i] & 15) * scale + minimum;
    values[i + 16] = static_cast<float>(block[4 + i] >> 4) * scale + minimum;
  }
}

void decode_q5_0(Bytes block, float* values) {
  const float scale = load_f16(block);
  for (int i = 0; i < 16; ++i) {
    const int low = (block[6 + i] & 15) | bit_of(block + 2, i) << 4;
    const int high = (block[6 + i] >> 4) | bit_of(block + 2, i + 16) << 4;
    values[i] = static_cast<float>(low - 16) * scale;
    values[i + 16] = static_cast<float>(high - 16) * scale;
  }
}

void decode_q5_1(Bytes block, float* values) {
  const float scale = load_f16(block);
  const float minimum = load_f16(block + 2);
  for (int i = 0; i < 16; ++i) {
    const int low = (block[8 + i] & 15) | bit_of(block + 4, i) << 4;
    const int high = (block[8 + i] >> 4) | bit_of(block + 4, i + 16) << 4;
    values[i] = static_cast<float>(low) * scale + minimum;
    values[i + 16] = static_cast<float>(high) * scale + minimum;
  }
}

void decode_q8_0(Bytes block, float* values) {
  const float scale = load_f16(block);
  for (int i = 0; i < 32; ++i) {
    values[i] = static_cast<float>(static_cast<int8_t>(block[2 + i])) * scale;
  }
}

// Where the two bits of a code of Q2_K and Q3_K are: halves of 128 elements share 32 bytes, bits
// 0-1 are elements 0 … 31, bits 2-3 the next 32.
int code_of_two(Bytes codes, int element) {
  return codes[element / 128 * 32 + element % 32] >> (element % 128 / 32 * 2) & 3;
}

// 16 bytes of scale and minimum (a nibble each), 64 of 2-bit codes, F16 scale and minimum.
void decode_q2_k(Bytes block, float* values) {
  const float scale = load_f16(block + 80);
  const float minimum = load_f16(block + 82);
  for (int run = 0; run < 16; ++run) {
    const float step = scale * static_cast<float>(block[run] & 15);
    const float offset = minimum * static_cast<float>(block[run] >> 4);
    for (int i = 16 * run; i < 16 * run + 16; ++i) {
      values[i] = step * static_cast<float>(code_of_two(block + 16, i)) - offset;
    }
  }
}

// 32 bytes of high bits, 64 of 2-bit codes, 12 of 6-bit scales, F16 scale.
void decode_q3_k(Bytes block, float* values) {
  const uint8_t* packed = block + 96;
  const float scale = load_f16(block + 108);
  for (int run = 0; run < 16; ++run) {
    const int low = run < 8 ? packed[run] & 15 : packed[run - 8] >> 4;
    const int high = packed[8 + run % 4] >> (run / 4 * 2) & 3;
    const float step = scale * static_cast<float>((low | high << 4) - 32);
    for (int i = 16 * run; i < 16 * run + 16; ++i) {
      const int top = block[i % 32] >> (i / 32) & 1;
      values[i] = step * static_cast<float>(code_of_two(block + 32, i) - (top != 0 ? 0 : 4));
    }
  }
}

struct ScaleAndMinimum {
  int scale;
  int minimum;
};

// Eight pairs of six bits in twelve bytes (Q4_K, Q5_K).
ScaleAndMinimum pair_of(Bytes packed, int index) {
  if (index < 4) return {packed[index] & 63, packed[index + 4] & 63};
  return {(packed[index + 4] & 15) | (packed[index - 4] >> 6) << 4,
          (packed[index + 4] >> 4) | (packed[index] >> 6) << 4};
}

// F16 scale and minimum, 12 bytes of pairs; then 4-bit codes, for Q5_K behind 32 bytes of high
// bits. Each 32 bytes of codes hold 32 elements in the low nibbles and the next 32 in the high
// ones.
void decode_q45_k(Bytes block, bool five, float* values) {
  const float scale = load_f16(block);
  const float minimum = load_f16(block + 2);
  const uint8_t* tops = block + 16;
  const uint8_t* codes = block + (five ? 48 : 16);
  for (int run = 0; run < 8; ++run) {
    const ScaleAndMinimum pair = pair_of(block + 4, run);
    const float step = scale * static_cast<float>(pair.scale);
    const float offset = minimum * static_cast<float>(pair.minimum);
    for (int i = 0; i < 32; ++i) {
      const uint8_t byte = codes[run / 2 * 32 + i];
      int code = run % 2 == 0 ? byte & 15 : byte >> 4;
      if (five) code |= (tops[i] >> run & 1) << 4;
      values[32 * run + i] = step * static_cast<float>(code) - offset;
    }
  }
}
void decode_q4_k(Bytes block, float* values) { decode_q45_k(block, false, values); }
void decode_q5_k(Bytes block, float* values) { decode_q45_k(block, true, values); }

// 128 bytes of low nibbles, 64 of high pairs of bits, 16 scales, F16 scale.
void decode_q6_k(Bytes block, float* values) {
  const float scale = load_f16(block + 208);
  for (int run = 0; run < 16; ++run) {
    const float step = scale * static_cast<float>(static_cast<int8_t>(block[192 + run]));
    const int half = run / 8;
    const int quarter = run % 8 / 2;
    for (int i = 0; i < 16; ++i) {
      const int place = 16 * (run % 2) + i;
      const uint8_t byte = block[64 * half + 32 * (quarter % 2) + place];
      const int low = quarter < 2 ? byte & 15 : byte >> 4;
      const int high = block[128 + 32 * half + place] >> (2 * quarter) & 3;
      values[16 * run + i] = step * static_cast<float>((low | high << 4) - 32);
    }
  }
}

// The grid of IQ4_NL and IQ4_XS.
constexpr std::array<float, 16> kNonLinear = {-127, -104, -83, -65, -49, -35, -22, -10,
                                              1,    13,   25,  38,  53,  69,  89,  113};

void decode_iq4_nl(Bytes block, float* values) {
  const float scale = load_f16(block);
  for (int i = 0; i < 16; ++i) {
    values[i] = scale * kNonLinear[block[2 + i] & 15];
    values[i + 16] = scale * kNonLinear[block[2 + i] >> 4];
  }
}

// F16 scale, 16 bits with the high pairs of eight scales, 4 bytes with their low nibbles, codes.
void decode_iq4_xs(Bytes block, float* values) {
  const float scale = load_f16(block);
  const unsigned tops = load_u16(block + 2);
  for (int run = 0; run < 8; ++run) {
    const int low = block[4 + run / 2] >> (4 * (run % 2)) & 15;
    const auto high = static_cast<int>(tops >> (2 * run) & 3U);
    const float step = scale * static_cast<float>((low | high << 4) - 32);
    for (int i = 0; i < 16; ++i) {
      const uint8_t byte = block[8 + 16 * run + i];
      values[32 * run + i] = step * kNonLinear[byte & 15];
      values[32 * run + i + 16] = step * kNonLinear[byte >> 4];
    }
  }
}

void decode_mxfp4(Bytes block, float* values) {
  const float scale = e8m0_to_f32(block[0]);
  for (int i = 0; i < 16; ++i) {
    values[i] = e2m1_to_f32(block[1 + i] & 15) * scale;
    values[i + 16] = e2m1_to_f32(block[1 + i] >> 4) * scale;
  }
}

template <void (*decode_block)(Bytes, float*), int64_t bytes, int64_t elements>
void decode_blocks(const std::byte* blocks, int64_t count, float* values) {
  const auto* from = reinterpret_cast<const uint8_t*>(blocks);
  for (int64_t i = 0; i < count; ++i) decode_block(from + i * bytes, values + i * elements);
}

template <void (*decode_block)(Bytes, float*), int64_t bytes, int64_t elements>
constexpr GgmlType readable(uint32_t id, const char* name) {
  return {id, name, elements, bytes, decode_blocks<decode_block, bytes, elements>};
}

constexpr std::array kTypes = std::to_array<GgmlType>({
    readable<decode_f32, 4, 1>(kGgmlF32, "F32"),
    readable<decode_f16, 2, 1>(kGgmlF16, "F16"),
    readable<decode_q4_0, 18, 32>(kGgmlQ40, "Q4_0"),
    readable<decode_q4_1, 20, 32>(kGgmlQ41, "Q4_1"),
    readable<decode_q5_0, 22, 32>(6, "Q5_0"),
    readable<decode_q5_1, 24, 32>(7, "Q5_1"),
    readable<decode_q8_0, 34, 32>(kGgmlQ80, "Q8_0"),
    {9, "Q8_1", 32, 36},
    readable<decode_q2_k, 84, kSuperBlock>(10, "Q2_K"),
    readable<decode_q3_k, 110, kSuperBlock>(11, "Q3_K"),
    readable<decode_q4_k, 144, kSuperBlock>(12, "Q4_K"),
    readable<decode_q5_k, 176, kSuperBlock>(13, "Q5_K"),
    readable<decode_q6_k, 210, kSuperBlock>(14, "Q6_K"),
    {15, "Q8_K", 256, 292},
    {16, "IQ2_XXS", 256, 66},
    {17, "IQ2_XS", 256, 74},
    {18, "IQ3_XXS", 256, 98},
    {19, "IQ1_S", 256, 50},
    readable<decode_iq4_nl, 18, 32>(20, "IQ4_NL"),
    {21, "IQ3_S", 256, 110},
    {22, "IQ2_S", 256, 82},
    readable<decode_iq4_xs, 136, kSuperBlock>(23, "IQ4_XS"),
    {24, "I8", 1, 1},
    {25, "I16", 1, 2},
    {26, "I32", 1, 4},
    {27, "I64", 1, 8},
    {28, "F64", 1, 8},
    {29, "IQ1_M", 256, 56},
    readable<decode_bf16, 2, 1>(kGgmlBf16, "BF16"),
    {34, "TQ1_0", 256, 54},
    {35, "TQ2_0", 256, 66},
    readable<decode_mxfp4, 17, 32>(kGgmlMxfp4, "MXFP4"),
    {40, "NVFP4", 64, 36},
});

std::span<uint8_t, 16> nibbles_at(std::byte* bytes) {
  return std::span<uint8_t, 16>(reinterpret_cast<uint8_t*>(bytes), 16);
}
std::span<const uint8_t, 16> nibbles_at(const std::byte* bytes) {
  return std::span<const uint8_t, 16>(reinterpret_cast<const uint8_t*>(bytes), 16);
}
uint16_t scale_at(const std::byte* bytes) {
  return load_u16(reinterpret_cast<const uint8_t*>(bytes));
}

}  // namespace

const GgmlType* find_ggml_type(uint32_t id) noexcept {
  const auto* found =
      std::find_if(kTypes.begin(), kTypes.end(), [id](const GgmlType& t) { return t.id == id; });
  return found == kTypes.end() ? nullptr : found;
}

void decode_ggml(const GgmlType& type, std::span<const std::byte> blocks, std::span<float> values) {
  type.decode(blocks.data(), static_cast<int64_t>(blocks.size()) / type.bytes, values.data());
}

void pack_q4_0(std::span<const int8_t, 32> codes, uint16_t scale,
               std::span<std::byte, kQ40Bytes> block) {
  store_u16(scale, block.data());
  pack_ggml_nibbles(codes, nibbles_at(block.data() + 2));
}

void unpack_q4_0(std::span<const std::byte, kQ40Bytes> block, std::span<int8_t, 32> codes,
                 uint16_t& scale) {
  scale = scale_at(block.data());
  unpack_ggml_nibbles(nibbles_at(block.data() + 2), codes);
}

void pack_q4_1(std::span<const int8_t, 32> codes, uint16_t scale, uint16_t minimum,
               std::span<std::byte, kQ41Bytes> block) {
  store_u16(scale, block.data());
  store_u16(minimum, block.data() + 2);
  pack_ggml_nibbles(codes, nibbles_at(block.data() + 4));
}

void pack_q8_0(std::span<const int8_t, 32> codes, uint16_t scale,
               std::span<std::byte, kQ80Bytes> block) {
  store_u16(scale, block.data());
  std::memcpy(block.data() + 2, codes.data(), codes.size());
}

void unpack_q8_0(std::span<const std::byte, kQ80Bytes> block, std::span<int8_t, 32> codes,
                 uint16_t& scale) {
  scale = scale_at(block.data());
  std::memcpy(codes.data(), block.data() + 2, codes.size());
}

void pack_mxfp4(std::span<const int8_t, 32> codes, uint8_t scale,
                std::span<std::byte, kMxfp4Bytes> block) {
  block[0] = static_cast<std::byte>(scale);
  pack_ggml_nibbles(codes, nibbles_at(block.data() + 1));
}

void unpack_mxfp4(std::span<const std::byte, kMxfp4Bytes> block, std::span<int8_t, 32> codes,
                  uint8_t& scale) {
  scale = static_cast<uint8_t>(block[0]);
  unpack_ggml_nibbles(nibbles_at(block.data() + 1), codes);
}

}  // namespace pare
