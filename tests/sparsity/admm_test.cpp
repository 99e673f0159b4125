// 2:4 masks of a whole layer at once: what they must be, and that they lose less.
#include "sparsity/admm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "pare/error.h"
#include "quant/output_error.h"
#include "sparsity/kept_weights.h"
#include "sparsity/masks.h"
#include "sparsity/sparsegpt.h"
#include "tests/quant/random_layer.h"

namespace pare {
namespace {

// As in trained models, few directions carry most of what the channels do.
std::vector<float> correlated_activations(uint32_t seed, int64_t tokens, int64_t columns) {
  const int64_t directions = columns / 4;
  const auto hidden = test::random_activations(seed, tokens, directions, 3);
  const auto mix = test::random_weight(seed + 77, columns, directions);
  auto x = test::random_activations(seed + 78, tokens, columns, 1);
  for (int64_t token = 0; token < tokens; ++token) {
    for (int64_t i = 0; i < columns; ++i) {
      float& value = x[static_cast<size_t>(token * columns + i)];
      value *= 0.2F;
      for (int64_t k = 0; k < directions; ++k) {
        value += 10 * mix[static_cast<size_t>(i * directions + k)] *
                 hidden[static_cast<size_t>(token * directions + k)];
      }
    }
  }
  return x;
}

struct AdmmLayer {
  static constexpr int64_t kRows = 96;
  static constexpr int64_t kColumns = 160;
  std::vector<float> weight;
  std::vector<double> gram_sum;
  std::vector<float> gram;
  ThreadPool pool{2};

  explicit AdmmLayer(uint32_t seed) {
    const auto x = correlated_activations(seed, 640, kColumns);
    gram_sum = test::statistics_of(x, 640, kColumns).gram;
    gram = mean_gram(gram_sum, 640);
    weight = test::random_weight(seed + 1, kRows, kColumns);
  }
  PrunedWeight prune() { return admm_prune(weight, kRows, kColumns, gram, {}, pool); }
  // After the kept weights have been solved for.
  double error(const std::vector<float>& start, const std::vector<uint8_t>& keep) {
    const auto solved = solve_kept_weights(weight, start, keep, kRows, kColumns, gram, {}, pool);
    return output_error(test::subtract(weight, solved), kRows, kColumns, gram, pool);
  }
};

TEST(Admm, TwoOfEachFourAndZeroElsewhere) {
  AdmmLayer layer(1);
  const PrunedWeight found = layer.prune();
  for (size_t i = 0; i < found.keep.size(); i += 4) {
    int kept = 0;
    for (size_t k = i; k < i + 4; ++k) {
      kept += found.keep[k];
      if (found.keep[k] == 0) {
        ASSERT_EQ(found.weight[k], 0) << k;
      }
    }
    ASSERT_EQ(kept, 2) << i;
  }
}

TEST(Admm, LosesLessThanSparseGpt) {
  for (const uint32_t seed : {2U, 3U, 4U}) {
    SCOPED_TRACE(test::seed_text(seed));
    AdmmLayer layer(seed);
    const PrunedWeight found = layer.prune();
    const InverseFactor factor =
        factorize_inverse(layer.gram_sum, AdmmLayer::kColumns, 0.01, "layer");
    const SparseGptResult other =
        sparsegpt(layer.weight, AdmmLayer::kRows, AdmmLayer::kColumns, factor, layer.pool);
    EXPECT_LT(layer.error(found.weight, found.keep), 0.97 * layer.error(other.weight, other.keep));
  }
}

// Channels that have nothing to do with each other: Wanda's rule is best.
TEST(Admm, IndependentChannelsLoseLittleMoreThanWithWandasMask) {
  AdmmLayer layer(5);
  constexpr auto n = static_cast<size_t>(AdmmLayer::kColumns);
  std::vector<double> square_sum(n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      if (i != j) layer.gram[i * n + j] = 0;
    }
    square_sum[i] = static_cast<double>(layer.gram[i * (n + 1)]);
  }
  PrunedWeight found = layer.prune();
  const auto wanda =
      wanda_mask(layer.weight, AdmmLayer::kRows, AdmmLayer::kColumns, square_sum, layer.pool);
  const double best = layer.error(layer.weight, wanda);
  EXPECT_LT(layer.error(found.weight, found.keep), 1.05 * best);
  // And no more at all when the other is at hand.
  PrunedWeight other{layer.weight, wanda};
  for (size_t i = 0; i < wanda.size(); ++i) {
    if (wanda[i] == 0) other.weight[i] = 0;
  }
  take_better_rows(layer.weight, AdmmLayer::kRows, AdmmLayer::kColumns, layer.gram, other, found,
                   layer.pool);
  EXPECT_LE(layer.error(found.weight, found.keep), 1.000001 * best);
}

TEST(Admm, ThreadsDoNotChangeABit) {
  AdmmLayer layer(6);
  ThreadPool one(1);
  const PrunedWeight found = layer.prune();
  const PrunedWeight other =
      admm_prune(layer.weight, AdmmLayer::kRows, AdmmLayer::kColumns, layer.gram, {}, one);
  EXPECT_EQ(found.weight, other.weight);
  EXPECT_EQ(found.keep, other.keep);
}

TEST(Admm, ChannelsThatWereNeverActive) {
  AdmmLayer layer(7);
  constexpr auto n = static_cast<size_t>(AdmmLayer::kColumns);
  for (const size_t dead : {size_t{0}, size_t{1}, size_t{17}}) {
    for (size_t j = 0; j < n; ++j) layer.gram[dead * n + j] = layer.gram[j * n + dead] = 0;
  }
  const PrunedWeight found = layer.prune();
  for (const float value : found.weight) ASSERT_TRUE(std::isfinite(value));
  // They make no room for themselves: of 0 … 3 the two that live stay.
  for (size_t row = 0; row < AdmmLayer::kRows; ++row) {
    const uint8_t* keep = found.keep.data() + row * n;
    ASSERT_EQ(std::vector<uint8_t>(keep, keep + 4), (std::vector<uint8_t>{0, 0, 1, 1})) << row;
    ASSERT_EQ(keep[17], 0) << row;
  }
}

TEST(Admm, RefusesWhatItCannotPrune) {
  ThreadPool pool(1);
  const std::vector<float> gram = test::identity_gram(6);
  EXPECT_THROW(admm_prune(std::vector<float>(12), 2, 6, gram, {}, pool), Error);
  AdmmLayer layer(8);
  layer.gram[5] = NAN;
  EXPECT_THROW(layer.prune(), Error);
}

}  // namespace
}  // namespace pare
