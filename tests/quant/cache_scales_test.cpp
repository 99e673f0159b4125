#include "quant/cache_scales.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <span>

#include "kernels/codec.h"

namespace pare {
namespace {

constexpr uint32_t kSeed = 20240611;
constexpr int64_t kTokens = 500;

// `value(token, head, channel)` as all tokens, of which all are the sample.
template <typename Value>
CacheRange make_range(int64_t heads, int64_t width, const Value& value) {
  CacheRange range{heads, width, {}, {}, {}, 0, 0};
  const auto channels = static_cast<size_t>(heads * width);
  range.minimum.assign(channels, INFINITY);
  range.maximum.assign(channels, -INFINITY);
  for (int64_t token = 0; token < kTokens; ++token) {
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t channel = 0; channel < width; ++channel) {
        const float found = value(token, head, channel);
        const auto i = static_cast<size_t>(head * width + channel);
        range.minimum[i] = std::min(range.minimum[i], found);
        range.maximum[i] = std::max(range.maximum[i], found);
        range.sample.push_back(found);
      }
    }
  }
  return range;
}

class CacheScalesOf : public ::testing::TestWithParam<CacheFormat> {
 protected:
  CacheRange normal_range(int64_t heads, int64_t width, float factor = 1, float bias = 0) {
    std::mt19937 random(kSeed);
    std::normal_distribution<float> normal;
    return make_range(heads, width,
                      [&](int64_t, int64_t, int64_t) { return factor * normal(random) + bias; });
  }

  CacheScales choose(const CacheRange& range, bool per_head, bool affine = false) {
    return choose_cache_scales(range, {GetParam(), per_head, affine}, pool_);
  }

  double sqnr(const CacheRange& range, const CacheScales& scales) {
    return cache_sqnr_db(range, GetParam(), scales).value();
  }

  ThreadPool pool_{2};
};
INSTANTIATE_TEST_SUITE_P(Formats, CacheScalesOf,
                         ::testing::Values(CacheFormat::kFp8E4m3, CacheFormat::kInt8),
                         [](const auto& chosen) -> std::string {
                           return chosen.param == CacheFormat::kInt8 ? "Int8" : "Fp8";
                         });

TEST_P(CacheScalesOf, HeadsOfEqualRangesHaveTheScaleOfTheTensor) {
  std::vector<float> values(kTokens * 16);
  std::mt19937 random(kSeed);
  std::normal_distribution<float> normal;
  for (float& value : values) value = normal(random);
  const CacheRange range = make_range(3, 16, [&](int64_t token, int64_t, int64_t channel) {
    return values[static_cast<size_t>(token * 16 + channel)];
  });
  const CacheScales tensor = choose(range, false);
  const CacheScales head = choose(range, true);
  ASSERT_EQ(tensor.scale.size(), 1U);
  EXPECT_EQ(head.scale, std::vector<float>(3, tensor.scale[0]));
  EXPECT_EQ(sqnr(range, head), sqnr(range, tensor));
}

TEST_P(CacheScalesOf, EachHeadHasItsOwnRange) {
  std::mt19937 random(kSeed);
  std::normal_distribution<float> normal;
  const CacheRange range = make_range(2, 16, [&](int64_t, int64_t head, int64_t) {
    return (head == 0 ? 100.0F : 0.01F) * normal(random);
  });
  const CacheScales scales = choose(range, true);
  EXPECT_GT(scales.scale[0], 1000 * scales.scale[1]);
  EXPECT_GE(sqnr(range, scales), sqnr(range, choose(range, false))) << "seed " << kSeed;
}

TEST_P(CacheScalesOf, FollowsTheUnitOfTheValues) {
  const CacheRange range = normal_range(2, 16);
  for (const float factor : {0.25F, 64.0F}) {
    const CacheRange scaled = normal_range(2, 16, factor);
    for (const bool affine : {false, true}) {
      CacheScales expected = choose(range, true, affine);
      for (float& scale : expected.scale) scale *= factor;
      for (float& offset : expected.offset) offset *= factor;
      const CacheScales found = choose(scaled, true, affine);
      EXPECT_EQ(found.scale, expected.scale);
      EXPECT_EQ(found.offset, expected.offset);
      EXPECT_NEAR(sqnr(scaled, found), sqnr(range, choose(range, true, affine)), 1e-6);
    }
  }
}

TEST_P(CacheScalesOf, NoWorseThanTheWholeRange) {
  const CacheRange range = normal_range(2, 16);
  CacheScales whole;
  for (size_t head = 0; head < 2; ++head) {
    const auto low = std::span(range.minimum).subspan(head * 16, 16);
    const auto high = std::span(range.maximum).subspan(head * 16, 16);
    whole.scale.push_back(
        symmetric_scale(std::max(absmax(low), absmax(high)), cache_divisor(GetParam())));
  }
  EXPECT_GE(sqnr(range, choose(range, true)), sqnr(range, whole));
}

// As large as the key biases of some models: it uses up the range of a symmetric cache.
TEST_P(CacheScalesOf, OffsetsTakeABiasOfFiftyOff) {
  const CacheRange plain = normal_range(2, 16);
  const CacheRange biased = normal_range(2, 16, 1, 50);
  const double unbiased = sqnr(plain, choose(plain, true));
  const double symmetric = sqnr(biased, choose(biased, true));
  const double affine = sqnr(biased, choose(biased, true, true));
  EXPECT_LT(symmetric, unbiased - 15) << "seed " << kSeed;
  EXPECT_GT(affine, unbiased - 2) << "seed " << kSeed;
}

TEST_P(CacheScalesOf, ZerosHaveAScaleThatCanBeStored) {
  const CacheRange range = make_range(2, 8, [](int64_t, int64_t, int64_t) { return 0.0F; });
  for (const bool affine : {false, true}) {
    for (const float scale : choose(range, true, affine).scale) {
      EXPECT_TRUE(std::isnormal(scale) && scale > 0);
    }
  }
  EXPECT_FALSE(cache_sqnr_db(range, GetParam(), choose(range, true)).has_value());
}

TEST_P(CacheScalesOf, ThreadsChangeNothing) {
  const CacheRange range = normal_range(5, 16);
  ThreadPool one(1);
  ThreadPool four(4);
  for (const bool per_head : {false, true}) {
    const CacheSpec spec{GetParam(), per_head, true};
    const CacheScales expected = choose_cache_scales(range, spec, one);
    const CacheScales found = choose_cache_scales(range, spec, four);
    EXPECT_EQ(found.scale, expected.scale);
    EXPECT_EQ(found.offset, expected.offset);
  }
}

}  // namespace
}  // namespace pare
