#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "kernels/codec.h"
#include "kernels/codec_reference.h"
#include "tests/kernels/each_target.h"

namespace pare {
namespace {

constexpr unsigned kSeed = 1618;

/// Exactly two of each four.
std::vector<uint8_t> random_keep(size_t size, std::mt19937& generator) {
  std::vector<uint8_t> keep;
  std::array<uint8_t, 4> group = {0, 0, 1, 1};
  while (keep.size() < size) {
    std::shuffle(group.begin(), group.end(), generator);
    // Any value but zero keeps.
    for (const uint8_t one : group) keep.push_back(one != 0 ? 1 + generator() % 255 : 0);
  }
  return keep;
}

TEST(Nibbles, PackAndUnpackEqualReference) {
  for_each_target([] {
    std::mt19937 generator(kSeed);
    for (const size_t size : kOddSizes) {
      for (const bool is_signed : {false, true}) {
        std::vector<int8_t> codes(size);
        for (int8_t& code : codes) {
          code = static_cast<int8_t>(static_cast<int>(generator() % 16) - (is_signed ? 8 : 0));
        }
        std::vector<uint8_t> packed((size + 1) / 2, 0xee);
        std::vector<uint8_t> expected(packed.size());
        pack_nibbles(codes, packed);
        reference::pack_nibbles(codes, expected);
        EXPECT_EQ(packed, expected) << size;
        std::vector<int8_t> again(size);
        unpack_nibbles(packed, is_signed, again);
        EXPECT_EQ(again, codes);
        reference::unpack_nibbles(packed, is_signed, again);
        EXPECT_EQ(again, codes);
      }
    }
  });
}

template <typename Code>
void check_2_4() {
  std::mt19937 generator(kSeed);
  for (const size_t size : {4U, 8U, 12U, 20U, 64U, 1028U}) {
    std::vector<Code> dense(size);
    for (Code& code : dense) code = static_cast<Code>(generator());
    const auto keep = random_keep(size, generator);
    std::vector<Code> kept(size / 2);
    std::vector<Code> expected_kept(size / 2);
    std::vector<uint8_t> mask((size / 4 + 1) / 2, 0xee);
    std::vector<uint8_t> expected_mask(mask.size());
    compress_2_4_row<Code>(dense, keep, kept, mask);
    reference::compress_2_4_row<Code>(dense, keep, expected_kept, expected_mask);
    EXPECT_EQ(kept, expected_kept) << size;
    EXPECT_EQ(mask, expected_mask) << size;
    std::vector<Code> expanded(size);
    expand_2_4_row<Code>(kept, mask, expanded);
    for (size_t i = 0; i < size; ++i) {
      EXPECT_EQ(expanded[i], keep[i] != 0 ? dense[i] : Code{0}) << i << " of " << size;
    }
    std::vector<Code> plain(size);
    reference::expand_2_4_row<Code>(kept, mask, plain);
    EXPECT_EQ(expanded, plain);
  }
}

TEST(TwoFour, RowsEqualReferenceAndSurvive) {
  check_2_4<int8_t>();
  check_2_4<uint8_t>();
  check_2_4<uint16_t>();
}

TEST(TwoFour, KnownBytes) {
  const std::vector<uint8_t> dense = {10, 11, 12, 13, 20, 21, 22, 23, 30, 31, 32, 33};
  const std::vector<uint8_t> keep = {1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 1, 1};
  std::vector<uint8_t> kept(6);
  std::vector<uint8_t> mask(2);
  compress_2_4_row<uint8_t>(dense, keep, kept, mask);
  EXPECT_EQ(kept, (std::vector<uint8_t>{10, 11, 21, 23, 32, 33}));
  // 0 | 1 << 2 = 4, 1 | 3 << 2 = 13, 2 | 3 << 2 = 14
  EXPECT_EQ(mask, (std::vector<uint8_t>{0xd4, 0x0e}));
}

struct WeightCase {
  WeightFormat format;
  int64_t rows;
  int64_t columns;
  int64_t group_size;
  bool symmetric;
  bool sparse;
  int64_t block_rows = 1;
};

struct BuiltWeight {
  CompressedWeight weight;
  std::vector<int8_t> codes;
  std::vector<uint16_t> bf16;
  std::vector<uint8_t> keep;
};

BuiltWeight build(const WeightCase& kind) {
  std::mt19937 generator(kSeed);
  BuiltWeight built;
  CompressedWeight& weight = built.weight;
  weight.format = kind.format;
  weight.out_features = kind.rows;
  weight.in_features = kind.columns;
  weight.group_size = kind.group_size;
  weight.symmetric = kind.symmetric;
  weight.block_rows = kind.block_rows;
  const bool nvfp4 = kind.format == WeightFormat::kNvfp4;
  if (nvfp4) weight.global_scale = 0.0123F;
  const auto size = static_cast<size_t>(kind.rows * kind.columns);
  if (kind.sparse) built.keep = random_keep(size, generator);
  if (kind.format == WeightFormat::kBf16) {
    for (size_t i = 0; i < size; ++i) built.bf16.push_back(static_cast<uint16_t>(generator()));
    pack_bf16_weight(built.bf16, built.keep, weight);
    return built;
  }
  for (size_t i = 0; i < size; ++i) {
    const auto draw = static_cast<int>(generator() % 256);
    switch (kind.format) {
      case WeightFormat::kInt4:
        built.codes.push_back(static_cast<int8_t>(draw % 16 - (kind.symmetric ? 8 : 0)));
        break;
      case WeightFormat::kNvfp4:
      case WeightFormat::kMxfp4:
        built.codes.push_back(static_cast<int8_t>(draw % 16));
        break;
      case WeightFormat::kInt8:
        built.codes.push_back(static_cast<int8_t>(draw == 128 ? 0 : draw));
        break;
      default:  // E4M3 without its NaN
        built.codes.push_back(static_cast<int8_t>((draw & 0x7f) == 0x7f ? 0x38 : draw));
    }
  }
  const int64_t scales = weight.scale_rows() * weight.groups();
  std::uniform_real_distribution<float> scale(1e-3F, 0.3F);
  for (int64_t i = 0; i < scales; ++i) {
    const float drawn = scale(generator);
    weight.scale.push_back(nvfp4 ? e4m3_to_f32(f32_to_e4m3(drawn))
                           : kind.format == WeightFormat::kMxfp4
                               ? std::ldexp(1.0F, std::ilogb(drawn))
                               : drawn);
    if (!kind.symmetric) weight.zero_point.push_back(static_cast<uint8_t>(generator() % 16));
  }
  pack_codes(built.codes, built.keep, weight);
  return built;
}

std::vector<WeightCase> all_cases() {
  std::vector<WeightCase> cases;
  for (const bool sparse : {false, true}) {
    for (const int64_t columns : {4, 20, 36, 260, 1024, 1156, 2100}) {
      cases.push_back({WeightFormat::kBf16, 3, columns, kPerTensor, true, sparse});
      cases.push_back({WeightFormat::kFp8E4m3, 3, columns, kPerTensor, true, sparse});
      cases.push_back({WeightFormat::kFp8E4m3, 3, columns, kPerChannel, true, sparse});
      cases.push_back({WeightFormat::kFp8E4m3, 5, columns, 32, true, sparse, 2});
      cases.push_back({WeightFormat::kNvfp4, 3, columns, kNvfp4Group, true, sparse});
      cases.push_back({WeightFormat::kMxfp4, 3, columns, kMxfp4Group, true, sparse});
      cases.push_back({WeightFormat::kInt8, 3, columns, kPerTensor, true, sparse});
      cases.push_back({WeightFormat::kInt8, 3, columns, kPerChannel, true, sparse});
      for (const bool symmetric : {false, true}) {
        for (const int64_t group : {int64_t{0}, int64_t{32}, int64_t{128}, int64_t{10}}) {
          cases.push_back({WeightFormat::kInt4, 3, columns, group, symmetric, sparse});
        }
      }
    }
  }
  for (const int64_t columns : {1, 5, 33, 1025}) {
    cases.push_back({WeightFormat::kInt4, 2, columns, 128, false, false});
    cases.push_back({WeightFormat::kInt4, 2, columns, kPerChannel, true, false});
    cases.push_back({WeightFormat::kNvfp4, 2, columns, kNvfp4Group, true, false});
    cases.push_back({WeightFormat::kMxfp4, 2, columns, kMxfp4Group, true, false});
    cases.push_back({WeightFormat::kFp8E4m3, 2, columns, kPerTensor, true, false});
    cases.push_back({WeightFormat::kBf16, 2, columns, kPerTensor, true, false});
  }
  return cases;
}

std::string describe(const WeightCase& kind) {
  return "format " + std::to_string(static_cast<int>(kind.format)) + " [" +
         std::to_string(kind.rows) + ", " + std::to_string(kind.columns) + "] group " +
         std::to_string(kind.group_size) + (kind.symmetric ? " symmetric" : " asymmetric") +
         (kind.sparse ? " 2:4" : "");
}

std::vector<uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<uint32_t> bits;
  for (const float value : values) bits.push_back(std::bit_cast<uint32_t>(value));
  return bits;
}

TEST(Weights, PackedOnesAreValid) {
  for (const WeightCase& kind : all_cases()) {
    EXPECT_NO_THROW(validate(build(kind).weight, "built")) << describe(kind);
  }
}

TEST(Weights, DequantizeAndExpandEqualReference) {
  for_each_target([] {
    for (const WeightCase& kind : all_cases()) {
      SCOPED_TRACE(describe(kind));
      const BuiltWeight built = build(kind);
      for (const int64_t begin : {int64_t{0}, int64_t{1}}) {
        const auto size = static_cast<size_t>((kind.rows - begin) * kind.columns);
        std::vector<float> found(size, 7.0F);
        std::vector<float> expected(size);
        dequantize_rows(built.weight, begin, kind.rows, found);
        reference::dequantize_rows(built.weight, begin, kind.rows, expected);
        ASSERT_EQ(bits_of(found), bits_of(expected));
        std::vector<uint16_t> bf16(size, 7);
        std::vector<uint16_t> expected_bf16(size);
        expand_to_bf16(built.weight, begin, kind.rows, bf16);
        reference::expand_to_bf16(built.weight, begin, kind.rows, expected_bf16);
        // bf16 weights are copied bit for bit, NaN payloads too, which a round trip would quiet.
        for (size_t i = 0; i < size; ++i) {
          const bool is_nan = (expected_bf16[i] & 0x7fffU) > 0x7f80U;
          ASSERT_EQ(bf16[i] | (is_nan ? 0x40U : 0U), expected_bf16[i]) << i;
        }
        if (kind.format != WeightFormat::kInt8) continue;
        std::vector<int8_t> int8(size, 7);
        std::vector<int8_t> expected_int8(size);
        expand_to_int8(built.weight, begin, kind.rows, int8);
        reference::expand_to_int8(built.weight, begin, kind.rows, expected_int8);
        ASSERT_EQ(int8, expected_int8);
      }
    }
  });
}

TEST(Weights, PackedCodesComeBack) {
  for (const WeightCase& kind : all_cases()) {
    if (kind.format == WeightFormat::kBf16) continue;
    SCOPED_TRACE(describe(kind));
    const BuiltWeight built = build(kind);
    std::vector<float> found(built.codes.size());
    dequantize_rows(built.weight, 0, kind.rows, found);
    const CompressedWeight& weight = built.weight;
    for (size_t i = 0; i < found.size(); ++i) {
      const auto row = static_cast<int64_t>(i) / kind.columns;
      const auto column = static_cast<int64_t>(i) % kind.columns;
      const int64_t group = kind.group_size > 0 ? column / kind.group_size : 0;
      const size_t index = weight.scale_index(row, group);
      const int zero_point = kind.symmetric ? 0 : weight.zero_point[index];
      const auto bits = static_cast<uint8_t>(built.codes[i]);
      const float code = kind.format == WeightFormat::kFp8E4m3 ? e4m3_to_f32(bits)
                         : is_fp4(kind.format)                 ? e2m1_to_f32(bits)
                                               : static_cast<float>(built.codes[i] - zero_point);
      const bool kept = built.keep.empty() || built.keep[i] != 0;
      ASSERT_EQ(found[i], kept ? code * (weight.scale[index] * weight.global_scale) : 0.0F) << i;
    }
  }
}

TEST(Inputs, RoundToFp4AsTheReferenceDoes) {
  for_each_target([] {
    std::mt19937 generator(kSeed);
    std::normal_distribution<float> normal;
    for (const size_t count : {1U, 16U, 31U, 32U, 100U, 1000U}) {
      std::vector<uint16_t> values(count);
      for (size_t i = 0; i < count; ++i) {
        const float size = std::ldexp(1.0F, static_cast<int>(generator() % 30) - 20);
        values[i] = f32_to_bf16(i / 16 % 3 == 1 ? 0.0F : size * normal(generator));
      }
      values[0] = f32_to_bf16(2000.0F);  // beyond what the global scale below holds
      for (const float scale : {0.001F, 0.11F, 3.0F}) {
        std::vector<uint16_t> found = values;
        std::vector<uint16_t> expected = values;
        round_to_nvfp4_bf16(found, scale);
        reference::round_to_nvfp4_bf16(expected, scale);
        ASSERT_EQ(found, expected) << count << " values, scale " << scale << ", seed " << kSeed;
      }
      std::vector<uint16_t> found = values;
      std::vector<uint16_t> expected = values;
      round_to_mxfp4_bf16(found);
      reference::round_to_mxfp4_bf16(expected);
      ASSERT_EQ(found, expected) << count << " values, seed " << kSeed;
    }
  });
}

TEST(Inputs, MxBlocksOfEveryExponent) {
  for (int exponent = -126; exponent < 128; ++exponent) {
    std::vector<uint16_t> values = {f32_to_bf16(std::ldexp(1.75F, exponent)),
                                    f32_to_bf16(std::ldexp(-1.0F, exponent)),
                                    f32_to_bf16(std::ldexp(0.25F, exponent))};
    std::vector<uint16_t> expected = values;
    round_to_mxfp4_bf16(values);
    reference::round_to_mxfp4_bf16(expected);
    EXPECT_EQ(values, expected) << exponent;
    // Mapped to 7, 4 and 1: the first saturates at 6.
    if (exponent < -124) continue;
    EXPECT_EQ(bf16_to_f32(values[0]), std::ldexp(1.5F, exponent));
    EXPECT_EQ(bf16_to_f32(values[1]), std::ldexp(-1.0F, exponent));
    EXPECT_EQ(bf16_to_f32(values[2]),
              exponent > -124 ? std::ldexp(0.25F, exponent) : bf16_to_f32(expected[2]));
  }
}

}  // namespace
}  // namespace pare
