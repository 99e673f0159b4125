#include "sparsity/sparsegpt.h"

#include <gtest/gtest.h>

#include "pare/error.h"
#include "quant/output_error.h"
#include "sparsity/masks.h"
#include "tests/quant/random_layer.h"

namespace pare {
namespace {

constexpr int64_t kRows = 70;
constexpr int64_t kColumns = 160;
constexpr int64_t kTokens = 640;

struct PruneLayer {
  std::vector<float> weight;
  InputStatistics statistics;
  InverseFactor factor;
  std::vector<float> gram;
  ThreadPool pool{2};

  explicit PruneLayer(uint32_t seed) {
    const auto x = test::random_activations(seed, kTokens, kColumns, 5);
    statistics = test::statistics_of(x, kTokens, kColumns);
    weight = test::random_weight(seed + 30, kRows, kColumns);
    factor = factorize_inverse(statistics.gram, kColumns, 0.01, "layer");
    gram = mean_gram(statistics.gram, kTokens);
  }
  double error(const std::vector<float>& changed) {
    return output_error(test::subtract(weight, changed), kRows, kColumns, gram, pool);
  }
  std::vector<float> masked(const std::vector<uint8_t>& keep) const {
    std::vector<float> result = weight;
    for (size_t i = 0; i < result.size(); ++i) result[i] *= static_cast<float>(keep[i]);
    return result;
  }
};

// The order that the papers report, and the update that must not be dropped.
TEST(SparseGpt, BeatsWandaBeatsMagnitude) {
  for (const uint32_t seed : {1U, 2U, 3U}) {
    SCOPED_TRACE(test::seed_text(seed));
    PruneLayer layer(seed);
    const SparseGptResult found =
        sparsegpt(layer.weight, kRows, kColumns, layer.factor, layer.pool);
    const auto magnitude = magnitude_mask(layer.weight, kRows, kColumns, layer.pool);
    const auto wanda =
        wanda_mask(layer.weight, kRows, kColumns, layer.statistics.square_sum, layer.pool);
    const double updated = layer.error(found.weight);
    EXPECT_LT(updated, 0.9 * layer.error(layer.masked(found.keep)));
    EXPECT_LT(updated, 0.9 * layer.error(layer.masked(wanda)));
    EXPECT_LT(layer.error(layer.masked(wanda)), layer.error(layer.masked(magnitude)));
    const auto moved =
        update_kept_weights(layer.weight, kRows, kColumns, wanda, layer.factor, layer.pool);
    EXPECT_LT(layer.error(moved), 0.9 * layer.error(layer.masked(wanda)));
  }
}

TEST(SparseGpt, ExactlyTwoOfFourAndZeroWherePruned) {
  PruneLayer layer(4);
  const SparseGptResult found = sparsegpt(layer.weight, kRows, kColumns, layer.factor, layer.pool);
  for (size_t i = 0; i < found.keep.size(); i += 4) {
    ASSERT_EQ(found.keep[i] + found.keep[i + 1] + found.keep[i + 2] + found.keep[i + 3], 2);
  }
  for (size_t i = 0; i < found.keep.size(); ++i) {
    if (found.keep[i] == 0) {
      ASSERT_EQ(found.weight[i], 0.0F);
    }
  }
}

TEST(SparseGpt, IndependentChannelsGiveTheMagnitudeMaskAndNoUpdate) {
  PruneLayer layer(5);
  std::vector<double> identity(kColumns * kColumns);
  for (size_t i = 0; i < kColumns; ++i) identity[i * (kColumns + 1)] = 1;
  const InverseFactor factor = factorize_inverse(identity, kColumns, 0, "layer");
  const SparseGptResult found = sparsegpt(layer.weight, kRows, kColumns, factor, layer.pool);
  EXPECT_EQ(found.keep, magnitude_mask(layer.weight, kRows, kColumns, layer.pool));
  EXPECT_EQ(found.weight, layer.masked(found.keep));
}

TEST(SparseGpt, QuantizedOnTheWayStaysClose) {
  PruneLayer layer(6);
  const double pruned =
      layer.error(sparsegpt(layer.weight, kRows, kColumns, layer.factor, layer.pool).weight);
  const WeightGrid grid =
      absmax_grid(layer.weight, kRows, kColumns, {WeightFormat::kInt4, 32, true});
  const ObsSolution joint =
      sparsegpt_quantized(layer.weight, kRows, kColumns, layer.factor, grid, layer.pool);
  EXPECT_LT(layer.error(joint.weight), 1.2 * pruned);
  EXPECT_EQ(round_trip(*joint.grid, joint.weight, layer.pool), joint.weight);
}

TEST(SparseGpt, WidthNotDivisibleByFourIsRefused) {
  const InverseFactor factor = factorize_inverse(std::vector<double>{1, 0, 0, 1}, 2, 0, "layer");
  ThreadPool pool(1);
  EXPECT_THROW(sparsegpt(std::vector<float>(4, 1.0F), 2, 2, factor, pool), Error);
}

}  // namespace
}  // namespace pare
