#include "sparsity/kept_weights.h"

#include <gtest/gtest.h>

#include <cmath>

#include "pare/error.h"
#include "quant/output_error.h"
#include "sparsity/masks.h"
#include "sparsity/sparsegpt.h"
#include "tests/quant/random_layer.h"

namespace pare {
namespace {

TEST(KeptWeights, HandComputed) {
  // H = [2 1; 1 2], w = (1, 1), the second pruned: minimise over a: 2(1−a)² + 2(1−a) + 2 → a = 1.5.
  const std::vector<float> gram = {2, 1, 1, 2};
  const std::vector<float> target = {1, 1};
  const std::vector<uint8_t> keep = {1, 0};
  ThreadPool pool(1);
  const auto found = solve_kept_weights(target, target, keep, 1, 2, gram, {4, 0.0}, pool);
  EXPECT_NEAR(found[0], 1.5F, 1e-6F);
  EXPECT_EQ(found[1], 0.0F);
}

struct KeptLayer {
  static constexpr int64_t kRows = 70;
  static constexpr int64_t kColumns = 96;
  std::vector<float> weight;
  std::vector<double> gram_sum;
  std::vector<float> gram;
  std::vector<uint8_t> keep;
  ThreadPool pool{2};

  explicit KeptLayer(uint32_t seed) {
    const auto x = test::random_activations(seed, 400, kColumns, 5);
    gram_sum = test::statistics_of(x, 400, kColumns).gram;
    gram = mean_gram(gram_sum, 400);
    weight = test::random_weight(seed + 1, kRows, kColumns);
    keep = magnitude_mask(weight, kRows, kColumns, pool);
  }
  std::vector<float> solve(std::span<const float> start, int iterations, double damping) {
    return solve_kept_weights(weight, start, keep, kRows, kColumns, gram, {iterations, damping},
                              pool);
  }
  double error(const std::vector<float>& changed) {
    return output_error(test::subtract(weight, changed), kRows, kColumns, gram, pool);
  }
};

// At the minimum the gradient (w − ŵ) H vanishes wherever a weight is kept.
TEST(KeptWeights, GradientVanishesOnTheSupport) {
  for (const uint32_t seed : {1U, 2U}) {
    SCOPED_TRACE(test::seed_text(seed));
    KeptLayer layer(seed);
    const auto found = layer.solve(layer.weight, 200, 0.0);
    const auto delta = test::subtract(layer.weight, found);
    constexpr auto kColumns = static_cast<size_t>(KeptLayer::kColumns);
    for (size_t row = 0; row < KeptLayer::kRows; ++row) {
      for (size_t j = 0; j < kColumns; ++j) {
        double gradient = 0;
        double size = 0;
        for (size_t i = 0; i < kColumns; ++i) {
          const double term = static_cast<double>(delta[row * kColumns + i]) *
                              static_cast<double>(layer.gram[i * kColumns + j]);
          gradient += term;
          size += std::abs(term);
        }
        if (layer.keep[row * kColumns + j] != 0) {
          ASSERT_LT(std::abs(gradient), 1e-3 * size);
        } else {
          ASSERT_EQ(found[row * kColumns + j], 0.0F);
        }
      }
    }
  }
}

TEST(KeptWeights, EachIterationHelpsAndOnePassIsNotTheMinimum) {
  KeptLayer layer(3);
  const InverseFactor factor =
      factorize_inverse(layer.gram_sum, KeptLayer::kColumns, 0.01, "layer");
  const auto pass = update_kept_weights(layer.weight, KeptLayer::kRows, KeptLayer::kColumns,
                                        layer.keep, factor, layer.pool);
  EXPECT_EQ(layer.solve(pass, 0, 0.0), pass);
  double before = layer.error(pass);
  const double first = before;
  for (const int iterations : {1, 2, 4, 8, 16}) {
    const double after = layer.error(layer.solve(pass, iterations, 0.0));
    EXPECT_LE(after, before * (1 + 1e-6));
    before = after;
  }
  EXPECT_LT(before, 0.95 * first);
}

TEST(KeptWeights, FullMaskGivesTheTargetBack) {
  KeptLayer layer(4);
  layer.keep.assign(layer.keep.size(), 1);
  const std::vector<float> zero(layer.weight.size());
  EXPECT_LT(layer.error(layer.solve(zero, 200, 0.0)), 1e-6 * layer.error(zero));
  EXPECT_EQ(layer.solve(layer.weight, 8, 0.01), layer.weight);
}

TEST(KeptWeights, DeadChannelsAndSingularGramsStayFinite) {
  KeptLayer layer(5);
  std::fill(layer.gram.begin(), layer.gram.end(), 0.0F);
  EXPECT_EQ(layer.solve(layer.weight, 8, 0.01).size(), layer.weight.size());
  std::fill(layer.gram.begin(), layer.gram.end(), 1.0F);  // rank one
  for (const float value : layer.solve(layer.weight, 30, 0.0)) EXPECT_TRUE(std::isfinite(value));
}

TEST(KeptWeights, NonFiniteInputsAreRefused) {
  KeptLayer layer(6);
  std::vector<float> bad = layer.weight;
  bad[100] = NAN;
  EXPECT_THROW(solve_kept_weights(bad, layer.weight, layer.keep, KeptLayer::kRows,
                                  KeptLayer::kColumns, layer.gram, {}, layer.pool),
               Error);
  EXPECT_THROW(solve_kept_weights(layer.weight, layer.weight, layer.keep, 3, KeptLayer::kColumns,
                                  layer.gram, {}, layer.pool),
               Error);
}

TEST(KeptWeights, DoesNotDependOnThreads) {
  KeptLayer layer(7);
  const auto expected = layer.solve(layer.weight, 8, 0.01);
  for (const size_t threads : {1, 3}) {
    ThreadPool pool(threads);
    EXPECT_EQ(solve_kept_weights(layer.weight, layer.weight, layer.keep, KeptLayer::kRows,
                                 KeptLayer::kColumns, layer.gram, {8, 0.01}, pool),
              expected);
  }
}

}  // namespace
}  // namespace pare
