#include "quant/weight_grid.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "core/dtype.h"
#include "pare/error.h"
#include "tests/quant/random_layer.h"

namespace pare {
namespace {

constexpr GridSpec kInt4G4 = {WeightFormat::kInt4, 4, true};

TEST(WeightGrid, KnownInt4Codes) {
  // absmax 3.5, scale 0.5: halves round to even, so 0.25 → 0 and 0.75 → 2 steps.
  const std::vector<float> weight = {3.5F, -3.5F, 0.25F, 0.75F, -0.25F, -0.75F, 1.25F, 7.0F};
  const WeightGrid grid = absmax_grid(weight, 2, 4, kInt4G4);
  EXPECT_EQ(grid.scale, (std::vector<float>{0.5F, 1.0F}));
  ThreadPool pool(1);
  EXPECT_EQ(encode(grid, weight, pool), (std::vector<int8_t>{7, -7, 0, 2, 0, -1, 1, 7}));
  EXPECT_EQ(round_trip(grid, weight, pool),
            (std::vector<float>{3.5F, -3.5F, 0, 1.0F, 0, -1.0F, 1.0F, 7.0F}));
}

TEST(WeightGrid, CodesSaturateAtTheEndsOfTheFormat) {
  WeightGrid grid;
  grid.out_features = 1;
  grid.in_features = 2;
  grid.scale = {1.0F};
  ThreadPool pool(1);
  const std::vector<float> weight = {1e30F, -1e30F};
  EXPECT_EQ(encode(grid, weight, pool), (std::vector<int8_t>{7, -8}));
  grid.format = WeightFormat::kInt8;
  EXPECT_EQ(encode(grid, weight, pool), (std::vector<int8_t>{127, -127}));
  grid.format = WeightFormat::kFp8E4m3;
  EXPECT_EQ(encode(grid, weight, pool), (std::vector<int8_t>{0x7e, -2}));
  EXPECT_EQ(round_trip(grid, weight, pool), (std::vector<float>{448.0F, -448.0F}));
}

TEST(WeightGrid, AsymmetricRangeIncludesZero) {
  // All positive: the range is 0 … 3, not 1 … 3, so that 0 stays 0.
  const std::vector<float> weight = {1.0F, 2.0F, 3.0F, 1.4F, -1.0F, 2.0F, 0.0F, 0.5F};
  const WeightGrid grid = absmax_grid(weight, 2, 4, {WeightFormat::kInt4, 4, false});
  EXPECT_FLOAT_EQ(grid.scale[0], 0.2F);
  EXPECT_EQ(grid.zero_point[0], 0);
  EXPECT_FLOAT_EQ(grid.scale[1], 0.2F);
  EXPECT_EQ(grid.zero_point[1], 5);
  ThreadPool pool(1);
  EXPECT_EQ(encode(grid, weight, pool), (std::vector<int8_t>{5, 10, 15, 7, 0, 15, 5, 7}));
  EXPECT_EQ(round_trip(grid, weight, pool)[6], 0.0F);
}

TEST(WeightGrid, ScaleLayouts) {
  const std::vector<float> weight = {1, 2, 3, 4, 5, -127, 7, 8, 9, 10};
  const WeightGrid tensor = absmax_grid(weight, 2, 5, {WeightFormat::kInt8, kPerTensor, true});
  EXPECT_EQ(tensor.scale, (std::vector<float>{1.0F}));
  const WeightGrid channel = absmax_grid(weight, 2, 5, {WeightFormat::kFp8E4m3, kPerChannel, true});
  EXPECT_EQ(channel.scale, (std::vector<float>{5.0F / 448.0F, 127.0F / 448.0F}));
  // The last group of a row is shorter.
  const WeightGrid groups = absmax_grid(weight, 2, 5, {WeightFormat::kInt4, 2, true});
  EXPECT_EQ(groups.groups(), 3);
  EXPECT_EQ(groups.scale,
            (std::vector<float>{2.0F / 7, 4.0F / 7, 5.0F / 7, 127.0F / 7, 9.0F / 7, 10.0F / 7}));
}

TEST(WeightGrid, AllEqualGroupHasExactScaleAndNoError) {
  const std::vector<float> weight(16, -1.75F);
  ThreadPool pool(1);
  for (const WeightFormat format : {WeightFormat::kInt4, WeightFormat::kFp8E4m3}) {
    const WeightGrid grid = absmax_grid(weight, 2, 8, {format, 4, true});
    EXPECT_EQ(round_trip(grid, weight, pool), weight);
  }
}

TEST(WeightGrid, ZeroAndTinyGroupsHavePositiveScales) {
  for (const bool symmetric : {true, false}) {
    std::vector<float> weight(8, 0.0F);
    weight[5] = std::numeric_limits<float>::denorm_min();
    const WeightGrid grid = absmax_grid(weight, 2, 4, {WeightFormat::kInt4, 4, symmetric});
    EXPECT_EQ(grid.scale[0], 1.0F);
    EXPECT_TRUE(std::isfinite(1 / grid.scale[1]));
    ThreadPool pool(1);
    for (const float value : round_trip(grid, weight, pool)) EXPECT_EQ(value, 0.0F);
  }
  const std::vector<float> huge = {std::numeric_limits<float>::max(),
                                   -std::numeric_limits<float>::max()};
  for (const bool symmetric : {true, false}) {
    const WeightGrid grid = absmax_grid(huge, 1, 2, {WeightFormat::kInt4, 2, symmetric});
    EXPECT_TRUE(std::isfinite(grid.scale[0]));
  }
}

TEST(WeightGrid, NonFiniteWeightsAreRefused) {
  ThreadPool pool(2);
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    std::vector<float> weight(400, 0.5F);
    weight[333] = bad;
    const auto is_non_finite = [](const Error& error) {
      return error.code() == ErrorCode::kNonFinite;
    };
    try {
      absmax_grid(weight, 100, 4, kInt4G4);
      ADD_FAILURE() << "accepted " << bad;
    } catch (const Error& error) {
      EXPECT_TRUE(is_non_finite(error));
    }
    WeightGrid grid = absmax_grid(std::vector<float>(400, 0.5F), 100, 4, kInt4G4);
    EXPECT_THROW(encode(grid, weight, pool), Error);
  }
}

TEST(WeightGrid, ContradictingSpecsAreRefused) {
  const std::vector<float> weight(8, 1.0F);
  EXPECT_THROW(absmax_grid(weight, 2, 4, {WeightFormat::kBf16, kPerChannel, true}), Error);
  EXPECT_THROW(absmax_grid(weight, 2, 4, {WeightFormat::kInt8, kPerChannel, false}), Error);
  EXPECT_THROW(absmax_grid(weight, 2, 4, {WeightFormat::kInt4, kPerTensor, false}), Error);
  EXPECT_THROW(absmax_grid(weight, 3, 4, kInt4G4), Error);
}

// The vectorised loops against the written rule, one value at a time.
TEST(WeightGrid, RoundingFollowsTheRule) {
  constexpr uint32_t kSeed = 20261;
  SCOPED_TRACE(test::seed_text(kSeed));
  std::mt19937 random(kSeed);
  std::vector<float> weight;
  for (int i = 0; i < 4096; ++i) {
    // All exponents, both signs, and many exact halves.
    const auto bits = static_cast<uint32_t>(random());
    const float any = std::bit_cast<float>((bits & 0x807fffffU) | ((96 + bits % 40) << 23));
    weight.push_back(i % 3 == 0 ? 0.5F * static_cast<float>(static_cast<int>(bits % 41) - 20)
                                : any);
  }
  ThreadPool pool(2);
  for (const WeightFormat format :
       {WeightFormat::kInt4, WeightFormat::kInt8, WeightFormat::kFp8E4m3}) {
    WeightGrid grid;
    grid.format = format;
    grid.out_features = 64;
    grid.in_features = 64;
    grid.group_size = kPerTensor;
    for (const float scale : {1.0F, 0.3F, 7.7e-3F}) {
      grid.scale = {scale};
      const float inverse = 1.0F / scale;
      const std::vector<int8_t> codes = encode(grid, weight, pool);
      const std::vector<float> values = round_trip(grid, weight, pool);
      for (size_t i = 0; i < weight.size(); ++i) {
        int8_t code = 0;
        float value = 0;
        if (format == WeightFormat::kFp8E4m3) {
          const uint8_t bits = f32_to_e4m3(weight[i] * inverse);
          code = static_cast<int8_t>(bits);
          value = e4m3_to_f32(bits) * scale;
        } else {
          const float lowest = format == WeightFormat::kInt8 ? -127.0F : -8.0F;
          const float highest = format == WeightFormat::kInt8 ? 127.0F : 7.0F;
          const float q = std::nearbyint(std::clamp(weight[i] * inverse, lowest, highest));
          code = static_cast<int8_t>(q);
          value = q * scale;
        }
        ASSERT_EQ(codes[i], code) << weight[i] << " / " << scale;
        ASSERT_EQ(values[i], value) << weight[i] << " / " << scale;
        const GridValue one = round_to_grid(grid, static_cast<int64_t>(i / 64),
                                            static_cast<int64_t>(i % 64), weight[i]);
        ASSERT_EQ(one.code, code);
        ASSERT_EQ(one.value, value);
      }
    }
  }
}

// More than half a step beyond the last value that the format has, on either side.
TEST(WeightGrid, ClippedWeightsAreCounted) {
  struct Case {
    WeightFormat format;
    bool symmetric;
    std::vector<float> weight;
    int64_t clipped;
  };
  WeightGrid grid;
  grid.out_features = 1;
  grid.scale = {2.0F};
  grid.global_scale = 1;
  for (const Case& one :
       std::vector<Case>{{WeightFormat::kInt4, true, {14.9F, 15.1F, -16.9F, -17.1F, 0}, 2},
                         {WeightFormat::kInt4, false, {24.9F, 25.1F, -6.9F, -7.1F, 0}, 2},
                         {WeightFormat::kInt8, true, {254.9F, 255.1F, -255.1F, -254.9F}, 2},
                         {WeightFormat::kFp8E4m3, true, {927, 929, -927, -929, -1e30F}, 3},
                         {WeightFormat::kNvfp4, true, {13.9F, 14.1F, -13.9F, -14.1F}, 2},
                         {WeightFormat::kMxfp4, true, {13.9F, 14.1F, -13.9F, -14.1F}, 2}}) {
    grid.format = one.format;
    grid.symmetric = one.symmetric;
    grid.in_features = static_cast<int64_t>(one.weight.size());
    grid.zero_point.assign(one.symmetric ? 0 : 1, 3);
    EXPECT_EQ(count_clipped(grid, one.weight), one.clipped) << static_cast<int>(one.format);
  }
}

TEST(WeightGrid, ScalingByAPowerOfTwoScalesTheGrid) {
  std::vector<float> weight = test::random_weight(11, 3, 40);
  ThreadPool pool(1);
  for (const bool symmetric : {true, false}) {
    const GridSpec spec = {WeightFormat::kInt4, 16, symmetric};
    const std::vector<int8_t> codes = encode(absmax_grid(weight, 3, 40, spec), weight, pool);
    std::vector<float> scaled = weight;
    for (float& value : scaled) value *= 8;
    const WeightGrid grid = absmax_grid(scaled, 3, 40, spec);
    EXPECT_EQ(encode(grid, scaled, pool), codes);
    EXPECT_EQ(grid.scale[0], 8 * absmax_grid(weight, 3, 40, spec).scale[0]);
  }
}

}  // namespace
}  // namespace pare
