// Blocks of ggml against vectors that were computed from their definitions, and round trips. That
// all types are decoded as another implementation does: tests/formats/gguf_source_test.cpp.
#include "kernels/ggml_blocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace pare {
namespace {

using Bytes = std::vector<std::byte>;

size_t index(int value) { return static_cast<size_t>(value); }

Bytes bytes_of(std::initializer_list<int> values) {
  Bytes bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

std::vector<float> decoded(uint32_t id, const Bytes& block) {
  const GgmlType& type = *find_ggml_type(id);
  std::vector<float> values(block.size() / static_cast<size_t>(type.bytes) *
                            static_cast<size_t>(type.block));
  decode_ggml(type, block, values);
  return values;
}

void put_f16(float value, size_t at, Bytes& block) {
  const uint16_t bits = f32_to_f16(value);
  block[at] = static_cast<std::byte>(bits & 255U);
  block[at + 1] = static_cast<std::byte>(bits >> 8U);
}

// −16 … 15, by the rule of llama.cpp: d = −16 / −8, q = min(15, trunc(x / d + 8.5)).
TEST(GgmlBlocks, Q4_0) {
  const Bytes block = bytes_of({0x00, 0x40, 0x80, 0x91, 0x91, 0xA2, 0xA2, 0xB3, 0xB3, 0xC4, 0xC4,
                                0xD5, 0xD5, 0xE6, 0xE6, 0xF7, 0xF7, 0xF8});
  const std::vector<float> values = decoded(kGgmlQ40, block);
  for (int i = 0; i < 32; ++i) {
    const auto code = std::min(15, static_cast<int>((static_cast<float>(i) - 16) / 2 + 8.5F));
    EXPECT_EQ(values[static_cast<size_t>(i)], static_cast<float>(code - 8) * 2) << i;
  }
  std::array<int8_t, 32> codes{};
  uint16_t scale = 0;
  unpack_q4_0(std::span<const std::byte, kQ40Bytes>(block), codes, scale);
  EXPECT_EQ(scale, f32_to_f16(2));
  Bytes again(kQ40Bytes);
  pack_q4_0(codes, scale, std::span<std::byte, kQ40Bytes>(again));
  EXPECT_EQ(again, block);
}

// −16 … 15 with d = f16(16 / 127), and codes rounded half away from zero.
TEST(GgmlBlocks, Q8_0) {
  Bytes block = bytes_of({0x08, 0x30});
  const float scale = f16_to_f32(0x3008);
  EXPECT_EQ(f32_to_f16(16.0F / 127), 0x3008);
  std::array<int8_t, 32> codes{};
  for (int i = 0; i < 32; ++i) {
    const float exact = (static_cast<float>(i) - 16) * 127 / 16;
    codes[static_cast<size_t>(i)] = static_cast<int8_t>(std::round(exact));
    block.push_back(static_cast<std::byte>(codes[static_cast<size_t>(i)]));
  }
  EXPECT_EQ(codes[0], -127);
  EXPECT_EQ(codes[1], -119);
  EXPECT_EQ(codes[31], 119);
  const std::vector<float> values = decoded(kGgmlQ80, block);
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(values[i], scale * static_cast<float>(codes[i]));
  Bytes again(kQ80Bytes);
  pack_q8_0(codes, 0x3008, std::span<std::byte, kQ80Bytes>(again));
  EXPECT_EQ(again, block);
}

TEST(GgmlBlocks, Q4_1AddsItsMinimum) {
  std::array<int8_t, 32> codes{};
  for (size_t i = 0; i < 32; ++i) codes[i] = static_cast<int8_t>(i % 16);
  Bytes block(kQ41Bytes);
  pack_q4_1(codes, f32_to_f16(0.5F), f32_to_f16(-3), std::span<std::byte, kQ41Bytes>(block));
  const std::vector<float> values = decoded(kGgmlQ41, block);
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(values[i], 0.5F * static_cast<float>(i % 16) - 3);
}

TEST(GgmlBlocks, Mxfp4) {
  std::array<int8_t, 32> codes{};
  for (size_t i = 0; i < 32; ++i) codes[i] = static_cast<int8_t>((i * 5) % 16);
  Bytes block(kMxfp4Bytes);
  pack_mxfp4(codes, 125, std::span<std::byte, kMxfp4Bytes>(block));
  const std::vector<float> values = decoded(kGgmlMxfp4, block);
  for (size_t i = 0; i < 32; ++i) {
    EXPECT_EQ(values[i], 0.25F * e2m1_to_f32(static_cast<uint8_t>(codes[i])));
  }
  std::array<int8_t, 32> back{};
  uint8_t scale = 0;
  unpack_mxfp4(std::span<const std::byte, kMxfp4Bytes>(block), back, scale);
  EXPECT_EQ(back, codes);
  EXPECT_EQ(scale, 125);
}

// Eight runs of 32 with scales 1 … 8 and minimums 9 … 16 (six bits each), codes 0 … 15.
TEST(GgmlBlocks, Q4_K) {
  Bytes block(144);
  put_f16(0.5F, 0, block);
  put_f16(0.25F, 2, block);
  for (int j = 0; j < 8; ++j) {
    const int scale = j + 1 + (j >= 4 ? 32 : 0);  // the later ones with high bits
    const int minimum = j + 9 + (j >= 4 ? 16 : 0);
    const auto add = [&](int at, int bits) {
      block[index(4 + at)] |= static_cast<std::byte>(bits);
    };
    if (j < 4) {
      add(j, scale);
      add(j + 4, minimum);
    } else {
      add(j + 4, (scale & 15) | (minimum & 15) << 4);
      add(j - 4, (scale >> 4) << 6);
      add(j, (minimum >> 4) << 6);
    }
  }
  for (int i = 0; i < 128; ++i) {
    block[index(16 + i)] = static_cast<std::byte>((i % 16) | (15 - i % 16) << 4);
  }
  const std::vector<float> values = decoded(12, block);
  for (int i = 0; i < 256; ++i) {
    const int run = i / 32;
    const int code = run % 2 == 0 ? i % 16 : 15 - i % 16;
    const auto scale = static_cast<float>(run + 1 + (run >= 4 ? 32 : 0));
    const auto minimum = static_cast<float>(run + 9 + (run >= 4 ? 16 : 0));
    EXPECT_EQ(values[static_cast<size_t>(i)],
              0.5F * scale * static_cast<float>(code) - 0.25F * minimum)
        << i;
  }
}

// Sixteen runs of 16 with signed scales, codes −32 … 31 from four places.
TEST(GgmlBlocks, Q6_K) {
  Bytes block(210);
  put_f16(2, 208, block);
  std::vector<int> codes(256);
  for (int i = 0; i < 256; ++i) codes[static_cast<size_t>(i)] = (7 * i + i / 64) % 64;
  const auto add = [&](int at, int bits) {
    block[static_cast<size_t>(at)] |= static_cast<std::byte>(bits);
  };
  for (int half = 0; half < 2; ++half) {
    for (int l = 0; l < 32; ++l) {
      for (int quarter = 0; quarter < 4; ++quarter) {
        const int code = codes[index(128 * half + 32 * quarter + l)];
        add(64 * half + 32 * (quarter % 2) + l, (code & 15) << (quarter / 2 * 4));
        add(128 + 32 * half + l, (code >> 4) << (2 * quarter));
      }
    }
  }
  for (int j = 0; j < 16; ++j) add(192 + j, j - 8);
  const std::vector<float> values = decoded(14, block);
  for (int i = 0; i < 256; ++i) {
    const int scale = i / 16 - 8;
    EXPECT_EQ(values[index(i)], static_cast<float>(2 * scale * (codes[index(i)] - 32))) << i;
  }
}

TEST(GgmlBlocks, PlainTypes) {
  EXPECT_EQ(decoded(kGgmlF32, bytes_of({0, 0, 0xC0, 0x3F})), std::vector<float>{1.5F});
  EXPECT_EQ(decoded(kGgmlF16, bytes_of({0x00, 0x3E})), std::vector<float>{1.5F});
  EXPECT_EQ(decoded(kGgmlBf16, bytes_of({0xC0, 0x3F})), std::vector<float>{1.5F});
}

// Every type has whole blocks, and one that cannot be decoded is known by its name.
TEST(GgmlBlocks, TypesAreKnownByNumber) {
  int readable = 0;
  for (uint32_t id = 0; id < 64; ++id) {
    const GgmlType* type = find_ggml_type(id);
    if (type == nullptr) continue;
    EXPECT_EQ(type->id, id);
    EXPECT_GT(type->bytes, 0) << type->name;
    EXPECT_GT(type->block, 0) << type->name;
    readable += type->decode != nullptr ? 1 : 0;
  }
  EXPECT_EQ(readable, 16);
  EXPECT_EQ(find_ggml_type(19)->name, std::string("IQ1_S"));
  EXPECT_EQ(find_ggml_type(4), nullptr);  // Q4_2, gone since 2023
  EXPECT_EQ(find_ggml_type(std::numeric_limits<uint32_t>::max()), nullptr);
}

}  // namespace
}  // namespace pare
