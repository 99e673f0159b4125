#include "quant/smoothquant.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "pare/error.h"
#include "quant/weight_grid.h"
#include "tests/quant/random_layer.h"

namespace pare {
namespace {

constexpr int64_t kTokens = 256;
constexpr int64_t kColumns = 64;
constexpr int64_t kRows = 80;

struct SmoothLayer {
  std::vector<float> x;
  InputStatistics statistics;
  LinearGroup group;

  explicit SmoothLayer(uint32_t seed, float heavy = 40)
      : x(test::random_activations(seed, kTokens, kColumns, heavy)),
        statistics(test::statistics_of(x, kTokens, kColumns, 1)) {
    group.in_features = kColumns;
    group.statistics = &statistics;
    group.linears.push_back({"linear", kRows, test::random_weight(seed + 1, kRows, kColumns)});
  }

  /// ‖X Wᵀ − Q(X/s) Q(W s)ᵀ‖² / ‖X Wᵀ‖² in double: what the engine would make of it.
  double deployed_error(const std::vector<float>& chosen, bool dynamic) const {
    const std::vector<float> scale = chosen.empty() ? std::vector<float>(kColumns, 1.0F) : chosen;
    const std::vector<float>& weight = group.linears[0].weight;
    std::vector<float> scaled = weight;
    for (size_t i = 0; i < scaled.size(); ++i) scaled[i] *= scale[i % kColumns];
    ThreadPool pool(1);
    const WeightGrid grid =
        absmax_grid(scaled, kRows, kColumns, {WeightFormat::kInt8, kPerChannel, true});
    const std::vector<float> rounded = round_trip(grid, scaled, pool);
    float largest = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      largest = std::max(largest, std::abs(x[i] / scale[i % kColumns]));
    }
    double error = 0;
    double energy = 0;
    for (int64_t token = 0; token < kTokens; ++token) {
      std::vector<double> exact(kColumns);
      std::vector<double> input(kColumns);
      float row_largest = 0;
      for (size_t i = 0; i < kColumns; ++i) {
        exact[i] = static_cast<double>(x[static_cast<size_t>(token) * kColumns + i]);
        row_largest = std::max(row_largest, static_cast<float>(std::abs(exact[i])) / scale[i]);
      }
      const double step = static_cast<double>((dynamic ? row_largest : largest) / 127.0F);
      for (size_t i = 0; i < kColumns; ++i) {
        input[i] = step * std::nearbyint(exact[i] / static_cast<double>(scale[i]) / step);
      }
      for (int64_t row = 0; row < kRows; ++row) {
        double y = 0;
        double z = 0;
        for (size_t i = 0; i < kColumns; ++i) {
          y += exact[i] * static_cast<double>(weight[static_cast<size_t>(row) * kColumns + i]);
          z += input[i] * static_cast<double>(rounded[static_cast<size_t>(row) * kColumns + i]);
        }
        error += (y - z) * (y - z);
        energy += y * y;
      }
    }
    return error / energy;
  }
};

TEST(SmoothQuant, SearchFindsTheStrengthThatServesBest) {
  ThreadPool pool(2);
  for (const uint32_t seed : {1U, 2U, 3U}) {
    for (const bool dynamic : {false, true}) {
      SCOPED_TRACE(test::seed_text(seed) + (dynamic ? " dynamic" : " static"));
      SmoothLayer layer(seed);
      const InputScaling found = search_smoothquant(layer.group, {-1, dynamic}, pool);
      const double chosen = layer.deployed_error(found.scale, dynamic);
      // The objective, without its cross term, is close to the true error of the deployed product.
      EXPECT_NEAR(found.loss, chosen, 0.1 * chosen);
      EXPECT_LT(chosen, layer.deployed_error({}, dynamic));
      for (const double strength : {0.0, 0.25, 0.5, 0.75, 1.0}) {
        const InputScaling fixed = search_smoothquant(layer.group, {strength, dynamic}, pool);
        EXPECT_LE(found.loss, fixed.loss);
        EXPECT_LT(chosen, 1.05 * layer.deployed_error(fixed.scale, dynamic));
      }
    }
  }
}

TEST(SmoothQuant, FixedStrengthFollowsTheFormula) {
  SmoothLayer layer(4);
  ThreadPool pool(1);
  // Strength 1: every channel reaches the same range.
  const InputScaling one = search_smoothquant(layer.group, {1.0, false}, pool);
  EXPECT_EQ(one.detail, "strength 1.00");
  const float range = layer.statistics.amax[0] / one.scale[0];
  for (size_t i = 0; i < kColumns; ++i) {
    EXPECT_NEAR(layer.statistics.amax[i] / one.scale[i], range, 1e-5F * range);
  }
  // Strength 0: every weight column does.
  const InputScaling zero = search_smoothquant(layer.group, {0.0, false}, pool);
  std::vector<float> largest(kColumns);
  for (size_t i = 0; i < layer.group.linears[0].weight.size(); ++i) {
    largest[i % kColumns] =
        std::max(largest[i % kColumns],
                 std::abs(layer.group.linears[0].weight[i]) * zero.scale[i % kColumns]);
  }
  for (const float value : largest) EXPECT_NEAR(value, largest[0], 1e-5F * largest[0]);
  EXPECT_THROW(search_smoothquant(layer.group, {1.5, false}, pool), Error);
}

// Channels with rare large values in the input or in the weight: a token's step seldom meets those
// of the input, and its noise comes through all weights, so ranges say too much.
TEST(SmoothQuant, StepsATokenGoByMomentsWhereRangesAreRare) {
  ThreadPool pool(2);
  for (const uint32_t seed : {71U, 72U, 73U}) {
    SCOPED_TRACE(test::seed_text(seed));
    SmoothLayer layer(seed, 1);
    for (size_t i = 0; i < layer.x.size(); ++i) {
      const size_t token = i / kColumns;
      const size_t channel = i % kColumns;
      if (channel % 2 == 0 && token == channel) layer.x[i] *= 40;
      if (channel % 3 == 0) layer.x[i] *= 6;
    }
    for (size_t channel = 1; channel < kColumns; channel += 2) {
      layer.group.linears[0].weight[channel * kColumns + channel] *= 12;
    }
    layer.statistics = test::statistics_of(layer.x, kTokens, kColumns, 1);
    const InputScaling found = search_smoothquant(layer.group, {-1, true}, pool);
    EXPECT_NE(found.detail.find("of moments"), std::string::npos) << found.detail;
    const double chosen = layer.deployed_error(found.scale, true);
    for (double strength = 0; strength <= 1; strength += 0.125) {
      const InputScaling fixed = search_smoothquant(layer.group, {strength, true}, pool);
      EXPECT_LT(chosen, layer.deployed_error(fixed.scale, true)) << strength;
    }
    // One step for all tokens has to reach the range.
    const InputScaling whole = search_smoothquant(layer.group, {-1, false}, pool);
    EXPECT_EQ(whole.detail.find("moments"), std::string::npos) << whole.detail;
  }
}

TEST(SmoothQuant, NeverLosesAgainstTheIdentity) {
  ThreadPool pool(2);
  for (const float heavy : {1.0F, 2.0F}) {
    for (const bool dynamic : {false, true}) {
      SmoothLayer layer(5, heavy);
      const InputScaling found = search_smoothquant(layer.group, {-1, dynamic}, pool);
      EXPECT_LE(found.loss, found.identity_loss);
      if (found.scale.empty()) {
        EXPECT_EQ(found.detail, "identity");
      }
    }
  }
}

TEST(SmoothQuant, WithoutASampleTheNoiseModelStandsIn) {
  SmoothLayer layer(6);
  ThreadPool pool(2);
  const InputScaling sampled = search_smoothquant(layer.group, {-1, false}, pool);
  layer.statistics.sample.clear();
  layer.statistics.sample_tokens = 0;
  const InputScaling modelled = search_smoothquant(layer.group, {-1, false}, pool);
  EXPECT_LT(layer.deployed_error(modelled.scale, false),
            1.2 * layer.deployed_error(sampled.scale, false));
  EXPECT_NEAR(modelled.loss, sampled.loss, 0.3 * sampled.loss);
}

TEST(SmoothQuant, TiedDeadAndEmptyChannels) {
  SmoothLayer layer(7);
  for (int32_t i = 0; i < kColumns; ++i) layer.group.tied_channel.push_back(i / 2);
  ThreadPool pool(1);
  const InputScaling tied = search_smoothquant(layer.group, {-1, false}, pool);
  ASSERT_FALSE(tied.scale.empty());
  for (size_t i = 0; i < kColumns; i += 2) EXPECT_EQ(tied.scale[i], tied.scale[i + 1]);

  layer.group.tied_channel.clear();
  layer.statistics.amax[9] = 0;
  for (size_t row = 0; row < kRows; ++row) layer.group.linears[0].weight[row * kColumns + 5] = 0;
  const InputScaling found = search_smoothquant(layer.group, {0.5, false}, pool);
  EXPECT_EQ(found.scale[9], 1.0F);
  for (const float scale : found.scale) {
    EXPECT_GE(scale, 1e-4F);
    EXPECT_LE(scale, 1e4F);
  }
}

TEST(SmoothQuant, NothingToMeasureIsTheIdentity) {
  SmoothLayer layer(8);
  std::fill(layer.statistics.gram.begin(), layer.statistics.gram.end(), 0.0);
  layer.statistics.tokens = 0;
  ThreadPool pool(1);
  const InputScaling found = search_smoothquant(layer.group, {}, pool);
  EXPECT_TRUE(found.scale.empty());
  EXPECT_EQ(found.detail, "identity: no output to measure");
}

TEST(SmoothQuant, DoesNotDependOnThreads) {
  SmoothLayer layer(9);
  ThreadPool one(1);
  const InputScaling expected = search_smoothquant(layer.group, {}, one);
  for (const size_t threads : {2, 3}) {
    ThreadPool pool(threads);
    const InputScaling found = search_smoothquant(layer.group, {}, pool);
    EXPECT_EQ(found.scale, expected.scale);
    EXPECT_EQ(found.loss, expected.loss);
  }
}

}  // namespace
}  // namespace pare
