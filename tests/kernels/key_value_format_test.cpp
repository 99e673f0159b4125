#include "kernels/key_value_format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "kernels/attention.h"
#include "tests/kernels/random_values.h"

namespace pare {
namespace {

using testing::kRandomSeed;
using testing::normal_values;

class CacheRows : public ::testing::TestWithParam<CacheFormat> {
 protected:
  static std::vector<float> rounded(const CacheScales& scales, const std::vector<float>& row,
                                    int64_t head = 0) {
    std::vector<float> out(row.size(), NAN);
    CacheRounding scratch;
    round_cache_row(GetParam(), scales, head, row, out, scratch);
    return out;
  }

  // One value at a time, with the scalar conversions.
  static float reference(float value, float scale, float offset) {
    const float scaled = (value - offset) * (1.0F / scale);
    const float code = GetParam() == CacheFormat::kInt8
                           ? std::nearbyint(std::clamp(scaled, -127.0F, 127.0F))
                           : e4m3_to_f32(f32_to_e4m3(scaled));
    const float product = code * scale;
    return offset == 0 ? product : product + offset;
  }
};
INSTANTIATE_TEST_SUITE_P(Formats, CacheRows,
                         ::testing::Values(CacheFormat::kFp8E4m3, CacheFormat::kInt8),
                         [](const auto& chosen) -> std::string {
                           return chosen.param == CacheFormat::kInt8 ? "Int8" : "Fp8";
                         });

TEST_P(CacheRows, EqualThePlainReference) {
  const int64_t heads = 3;
  for (const int64_t width : {1, 7, 16, 64, 80, 128, 200}) {
    for (const bool affine : {false, true}) {
      CacheScales scales{{0.01F, 0.37F, 40.0F}, {}};
      if (affine) scales.offset = normal_values(heads * width, kRandomSeed + 1);
      for (int64_t head = 0; head < heads; ++head) {
        std::vector<float> row = normal_values(width, kRandomSeed);
        row[0] = 1e6F;  // saturates
        row.back() = -0.0F;
        const std::vector<float> found = rounded(scales, row, head);
        for (size_t i = 0; i < row.size(); ++i) {
          const float offset = affine ? scales.offset[static_cast<size_t>(head * width) + i] : 0.0F;
          ASSERT_EQ(found[i], reference(row[i], scales.of_head(head), offset))
              << "width " << width << ", head " << head << ", channel " << i << ", seed "
              << kRandomSeed;
        }
      }
    }
  }
}

TEST_P(CacheRows, RoundedInPlaceIsTheSame) {
  const CacheScales scales{{0.03F}, normal_values(64, kRandomSeed)};
  std::vector<float> row = normal_values(64, kRandomSeed + 2);
  const std::vector<float> expected = rounded(scales, row);
  CacheRounding scratch;
  round_cache_row(GetParam(), scales, 0, row, row, scratch);
  EXPECT_EQ(row, expected);
}

TEST_P(CacheRows, ErrorsStayWithinHalfAStep) {
  const float largest = 5;
  const float scale = largest / cache_divisor(GetParam());
  std::vector<float> row = normal_values(4096, kRandomSeed);
  for (float& value : row) value = std::clamp(value, -largest, largest);
  const std::vector<float> found = rounded({{scale}, {}}, row);
  for (size_t i = 0; i < row.size(); ++i) {
    // E4M3: 2^−4 of a normal number, half of 2^−9 of the scale below.
    const float step = GetParam() == CacheFormat::kInt8
                           ? scale / 2
                           : std::max(std::abs(row[i]) / 16, scale / 1024);
    ASSERT_LE(std::abs(found[i] - row[i]), step * 1.0001F) << row[i] << ", seed " << kRandomSeed;
  }
}

TEST_P(CacheRows, WhatTheFormatHoldsIsKept) {
  std::vector<float> row;
  if (GetParam() == CacheFormat::kInt8) {
    for (int code = -127; code <= 127; ++code) row.push_back(static_cast<float>(code) * 0.25F);
  } else {
    for (int code = 0; code < 256; ++code) {
      if ((code & 0x7F) != 0x7F) row.push_back(e4m3_to_f32(static_cast<uint8_t>(code)) * 0.25F);
    }
  }
  EXPECT_EQ(rounded({{0.25F}, {}}, row), row);
}

TEST_P(CacheRows, OnceRoundedIsRounded) {
  const CacheScales scales{{0.037F}, {}};
  const std::vector<float> once = rounded(scales, normal_values(1000, kRandomSeed));
  EXPECT_EQ(rounded(scales, once), once);
}

TEST_P(CacheRows, PowersOfTwoPassThrough) {
  const std::vector<float> row = normal_values(500, kRandomSeed);
  const std::vector<float> plain = rounded({{0.021F}, {}}, row);
  for (const float factor : {0.125F, 2.0F, 1024.0F}) {
    std::vector<float> scaled = row;
    std::vector<float> expected = plain;
    for (float& value : scaled) value *= factor;
    for (float& value : expected) value *= factor;
    EXPECT_EQ(rounded({{0.021F * factor}, {}}, scaled), expected) << factor;
  }
}

TEST_P(CacheRows, OneScaleEqualsTheSameForEachHead) {
  const std::vector<float> row = normal_values(32, kRandomSeed);
  for (int64_t head = 0; head < 3; ++head) {
    EXPECT_EQ(rounded({{0.05F}, {}}, row, head), rounded({{0.05F, 0.05F, 0.05F}, {}}, row, head));
  }
}

TEST_P(CacheRows, AnOffsetKeepsABiasThatAllTokensShare) {
  std::vector<float> row = normal_values(64, kRandomSeed);
  for (float& value : row) value = 50 + std::clamp(value, -4.0F, 4.0F);
  const auto worst = [&](const CacheScales& scales) {
    const std::vector<float> found = rounded(scales, row);
    float largest = 0;
    for (size_t i = 0; i < row.size(); ++i) {
      largest = std::max(largest, std::abs(found[i] - row[i]));
    }
    return largest;
  };
  const float affine = worst({{4 / cache_divisor(GetParam())}, std::vector<float>(64, 50.0F)});
  const float symmetric = worst({{54 / cache_divisor(GetParam())}, {}});
  EXPECT_LT(affine, symmetric / 4) << "seed " << kRandomSeed;
}

TEST_P(CacheRows, NeitherNanNorInfinityIsHidden) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> row(8, 1.3F);
    row[5] = bad;
    const std::vector<float> found = rounded({{1}, {}}, row);
    EXPECT_FALSE(std::isfinite(found[5]));
  }
}

class RoundedCache : public ::testing::TestWithParam<Precision> {
 protected:
  static constexpr int64_t kTokens = 300;
  const AttentionShape shape_{.heads = 6, .kv_heads = 3, .head_dim = 16, .scale = 0.25F};
  const std::vector<float> q_ = normal_values(kTokens * 96, kRandomSeed);
  const std::vector<float> k_ = normal_values(kTokens * 48, kRandomSeed + 1);
  const std::vector<float> v_ = normal_values(kTokens * 48, kRandomSeed + 2);
  const KeyValueFormat format_{CacheFormat::kInt8,
                               {{0.03F, 0.04F, 0.05F}, normal_values(48, kRandomSeed + 3)},
                               {{0.02F}, {}}};

  std::vector<float> run(const std::vector<float>& k, const std::vector<float>& v,
                         const KeyValueFormat* format, int64_t step) const {
    const Attention attention(shape_, GetParam());
    KeyValueCache cache(shape_, kTokens, GetParam());
    AttentionScratch scratch;
    std::vector<float> out(q_.size(), NAN);
    for (int64_t at = 0; at < kTokens; at += step) {
      const int64_t rows = std::min(step, kTokens - at);
      cache.append(k.data() + at * 48, v.data() + at * 48, rows, format);
      attention.run(q_.data() + at * 96, rows, at, cache, out.data() + at * 96, scratch);
    }
    return out;
  }
};
INSTANTIATE_TEST_SUITE_P(Precisions, RoundedCache,
                         ::testing::Values(Precision::kBf16, Precision::kBf16Pairs,
                                           Precision::kF32));

TEST_P(RoundedCache, AttentionReadsWhatTheCacheGivesBack) {
  std::vector<float> k = k_;
  std::vector<float> v = v_;
  CacheRounding scratch;
  for (size_t row = 0; row < k.size() / 16; ++row) {
    const std::span<float> key(k.data() + row * 16, 16);
    const std::span<float> value(v.data() + row * 16, 16);
    const auto head = static_cast<int64_t>(row % 3);
    round_cache_row(format_.format, format_.keys, head, key, key, scratch);
    round_cache_row(format_.format, format_.values, head, value, value, scratch);
  }
  const std::vector<float> expected = run(k, v, nullptr, kTokens);
  EXPECT_EQ(run(k_, v_, &format_, kTokens), expected);
  EXPECT_NE(run(k_, v_, nullptr, kTokens), expected);
}

TEST_P(RoundedCache, TokensInAnyNumberOfSegmentsAreTheSame) {
  const std::vector<float> whole = run(k_, v_, &format_, kTokens);
  for (const int64_t step : {1, 64, 129}) EXPECT_EQ(run(k_, v_, &format_, step), whole) << step;
}

}  // namespace
}  // namespace pare
