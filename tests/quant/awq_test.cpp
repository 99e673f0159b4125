#include "quant/awq.h"

#include <gtest/gtest.h>

#include <cmath>

#include "pare/error.h"
#include "quant/output_error.h"
#include "quant/scaled_error.h"
#include "tests/quant/random_layer.h"

namespace pare {
namespace {

constexpr GridSpec kSpec = {WeightFormat::kInt4, 32, true};

struct AwqLayer {
  InputStatistics statistics;
  LinearGroup group;

  explicit AwqLayer(uint32_t seed, float heavy = 30, int64_t columns = 64) {
    const auto x = test::random_activations(seed, 256, columns, heavy);
    statistics = test::statistics_of(x, 256, columns);
    group.in_features = columns;
    group.statistics = &statistics;
    for (const int64_t rows : {int64_t{70}, int64_t{33}}) {
      group.linears.push_back(
          {"linear" + std::to_string(rows), rows,
           test::random_weight(seed + static_cast<uint32_t>(rows), rows, columns)});
    }
  }
};

TEST(Awq, ProtectsHeavyChannels) {
  ThreadPool pool(2);
  for (const uint32_t seed : {1U, 2U, 3U}) {
    SCOPED_TRACE(test::seed_text(seed));
    AwqLayer layer(seed);
    const InputScaling found = search_awq(layer.group, kSpec, /*clip=*/true, pool);
    ASSERT_EQ(found.scale.size(), 64U);
    EXPECT_LT(found.loss, found.identity_loss);
    // On the plain absmax grid, which has no clipping to help the heavy channels, it gains most.
    const auto gram = mean_gram(layer.statistics.gram, layer.statistics.tokens);
    const std::vector<float> ones(64, 1.0F);
    EXPECT_LT(absmax_scaled_error(layer.group, found.scale, kSpec, gram, pool),
              0.7 * absmax_scaled_error(layer.group, ones, kSpec, gram, pool));
    EXPECT_GT(found.scale[3], 2 * found.scale[4]);  // channel 3 is heavy
    EXPECT_EQ(found.detail.substr(0, 6), "ratio ");
  }
}

TEST(Awq, LossIsTheErrorOfTheScaledAndClippedWeights) {
  AwqLayer layer(4);
  ThreadPool pool(2);
  const InputScaling found = search_awq(layer.group, kSpec, /*clip=*/true, pool);
  const auto gram = mean_gram(layer.statistics.gram, layer.statistics.tokens);
  double energy = 0;
  for (const GroupLinear& linear : layer.group.linears) {
    energy += output_error(linear.weight, linear.out_features, 64, gram, pool);
  }
  EXPECT_NEAR(clipped_scaled_error(layer.group, found.scale, kSpec, gram, pool) / energy,
              found.loss, 1e-9);
  // Rounding of the unscaled weight is what identity_loss says.
  const std::vector<float> ones(64, 1.0F);
  EXPECT_NEAR(clipped_scaled_error(layer.group, ones, kSpec, gram, pool) / energy,
              found.identity_loss, 1e-9);
  EXPECT_LE(clipped_scaled_error(layer.group, ones, kSpec, gram, pool),
            absmax_scaled_error(layer.group, ones, kSpec, gram, pool));
}

TEST(Awq, WithoutClippingTheChoiceIsBestOnUnclippedGrids) {
  ThreadPool pool(1);
  const std::vector<float> ones(64, 1.0F);
  for (uint32_t seed = 30; seed < 40; ++seed) {
    SCOPED_TRACE(test::seed_text(seed));
    AwqLayer layer(seed, 1.0F);
    const InputScaling found = search_awq(layer.group, kSpec, /*clip=*/false, pool);
    const auto gram = mean_gram(layer.statistics.gram, layer.statistics.tokens);
    const auto error = [&](const std::vector<float>& scale) {
      return absmax_scaled_error(layer.group, scale, kSpec, gram, pool);
    };
    const std::vector<float>& scale = found.scale.empty() ? ones : found.scale;
    EXPECT_LE(error(scale), error(ones));
    EXPECT_NEAR(error(scale) / error(ones), found.loss / found.identity_loss, 1e-9);
  }
}

TEST(Awq, NeverLosesAgainstTheIdentity) {
  ThreadPool pool(2);
  for (const float heavy : {1.0F, 3.0F}) {
    for (uint32_t seed = 10; seed < 14; ++seed) {
      SCOPED_TRACE(test::seed_text(seed));
      AwqLayer layer(seed, heavy);
      for (const GridSpec& spec : {kSpec, GridSpec{WeightFormat::kInt4, 48, false},
                                   GridSpec{WeightFormat::kInt8, kPerChannel, true},
                                   GridSpec{WeightFormat::kFp8E4m3, kPerTensor, true}}) {
        const InputScaling found = search_awq(layer.group, spec, /*clip=*/true, pool);
        EXPECT_LE(found.loss, found.identity_loss);
        EXPECT_GT(found.loss, 0);
        if (found.scale.empty()) {
          EXPECT_EQ(found.detail, "identity");
        }
      }
    }
  }
}

TEST(Awq, TiedChannelsShareTheirScale) {
  AwqLayer layer(5);
  for (int32_t i = 0; i < 64; ++i) layer.group.tied_channel.push_back(i % 32);
  ThreadPool pool(1);
  const InputScaling found = search_awq(layer.group, kSpec, /*clip=*/true, pool);
  ASSERT_FALSE(found.scale.empty());
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(found.scale[i], found.scale[i + 32]);
}

TEST(Awq, DeadChannelsAndZeroWeightsKeepUsableScales) {
  AwqLayer layer(6);
  for (const size_t dead : {size_t{7}, size_t{40}}) {
    layer.statistics.amax[dead] = 0;
    layer.statistics.mean_abs[dead] = 0;
    layer.statistics.square_sum[dead] = 0;
    for (size_t i = 0; i < 64; ++i) {
      layer.statistics.gram[dead * 64 + i] = layer.statistics.gram[i * 64 + dead] = 0;
    }
  }
  for (GroupLinear& linear : layer.group.linears) {
    for (size_t row = 0; row < static_cast<size_t>(linear.out_features); ++row) {
      linear.weight[row * 64 + 12] = 0;
    }
  }
  ThreadPool pool(1);
  const InputScaling found = search_awq(layer.group, kSpec, /*clip=*/true, pool);
  ASSERT_FALSE(found.scale.empty());
  EXPECT_EQ(found.scale[7], 1.0F);
  EXPECT_EQ(found.scale[40], 1.0F);
  for (const float scale : found.scale) {
    EXPECT_GE(scale, 1e-4F);
    EXPECT_LE(scale, 1e4F);
  }
}

TEST(Awq, NothingToMeasureIsTheIdentity) {
  AwqLayer layer(7);
  layer.statistics.tokens = 0;
  for (auto* values : {&layer.statistics.gram, &layer.statistics.square_sum}) {
    std::fill(values->begin(), values->end(), 0.0);
  }
  ThreadPool pool(1);
  const InputScaling found = search_awq(layer.group, kSpec, /*clip=*/true, pool);
  EXPECT_TRUE(found.scale.empty());
  EXPECT_EQ(found.loss, 0);
  EXPECT_EQ(found.detail, "identity: no output to measure");
}

TEST(Awq, WorksOnTheDiagonalWithoutAGram) {
  AwqLayer layer(8);
  layer.statistics.gram.clear();
  ThreadPool pool(1);
  const InputScaling found = search_awq(layer.group, kSpec, /*clip=*/true, pool);
  EXPECT_FALSE(found.scale.empty());
  EXPECT_LT(found.loss, found.identity_loss);
}

TEST(Awq, DoesNotDependOnThreads) {
  AwqLayer layer(9, 30, 96);
  ThreadPool one(1);
  const InputScaling expected = search_awq(layer.group, kSpec, /*clip=*/true, one);
  for (const size_t threads : {2, 3}) {
    ThreadPool pool(threads);
    const InputScaling found = search_awq(layer.group, kSpec, /*clip=*/true, pool);
    EXPECT_EQ(found.scale, expected.scale);
    EXPECT_EQ(found.loss, expected.loss);
    EXPECT_EQ(found.identity_loss, expected.identity_loss);
    EXPECT_EQ(found.detail, expected.detail);
  }
}

TEST(Awq, BrokenGroupsAreRefused) {
  ThreadPool pool(2);
  AwqLayer layer(10);
  layer.group.linears[1].weight[100] = NAN;
  EXPECT_THROW(search_awq(layer.group, kSpec, /*clip=*/true, pool), Error);
  layer.group.linears[1].weight.pop_back();
  EXPECT_THROW(search_awq(layer.group, kSpec, /*clip=*/true, pool), Error);
  layer.group.statistics = nullptr;
  EXPECT_THROW(search_awq(layer.group, kSpec, /*clip=*/true, pool), Error);
}

}  // namespace
}  // namespace pare
