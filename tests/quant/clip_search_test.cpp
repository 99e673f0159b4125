#include "quant/clip_search.h"

#include <gtest/gtest.h>

#include <cmath>

#include "pare/error.h"
#include "quant/output_error.h"
#include "tests/quant/random_layer.h"

namespace pare {
namespace {

/// Error of each scale run by the measure that decides it: its own block of the Gram matrix.
std::vector<double> run_errors(const WeightGrid& grid, const std::vector<float>& weight,
                               const std::vector<float>& gram, ThreadPool& pool) {
  const std::vector<float> delta = test::subtract(weight, round_trip(grid, weight, pool));
  const int64_t columns = grid.in_features;
  const int64_t length = grid.group_size > 0 ? grid.group_size : columns;
  std::vector<double> errors;
  for (int64_t row = 0; row < grid.out_features; ++row) {
    for (int64_t first = 0; first < columns; first += length) {
      double sum = 0;
      const int64_t end = std::min(columns, first + length);
      for (int64_t i = first; i < end; ++i) {
        for (int64_t j = first; j < end; ++j) {
          sum += static_cast<double>(delta[static_cast<size_t>(row * columns + i)]) *
                 static_cast<double>(gram[static_cast<size_t>(i * columns + j)]) *
                 static_cast<double>(delta[static_cast<size_t>(row * columns + j)]);
        }
      }
      errors.push_back(sum);
    }
  }
  return errors;
}

TEST(ClipSearch, NeverWorseThanAbsmaxInAnyGroup) {
  constexpr int64_t kRows = 70;
  constexpr int64_t kColumns = 40;  // the last group of 16 is short
  ThreadPool pool(2);
  for (const uint32_t seed : {1U, 2U, 3U}) {
    SCOPED_TRACE(test::seed_text(seed));
    const auto x = test::random_activations(seed, 128, kColumns, 12);
    const auto gram = mean_gram(test::statistics_of(x, 128, kColumns).gram, 128);
    const auto weight = test::random_weight(seed + 100, kRows, kColumns);
    for (const GridSpec& spec :
         {GridSpec{WeightFormat::kInt4, 16, true}, GridSpec{WeightFormat::kInt4, 16, false},
          GridSpec{WeightFormat::kInt8, kPerChannel, true},
          GridSpec{WeightFormat::kFp8E4m3, kPerChannel, true}}) {
      const auto plain = run_errors(absmax_grid(weight, kRows, kColumns, spec), weight, gram, pool);
      const auto found = run_errors(search_clip(weight, kRows, kColumns, spec, gram, {}, pool),
                                    weight, gram, pool);
      double plain_sum = 0;
      double found_sum = 0;
      for (size_t i = 0; i < plain.size(); ++i) {
        EXPECT_LE(found[i], plain[i] * (1 + 1e-5) + 1e-12);
        plain_sum += plain[i];
        found_sum += found[i];
      }
      // Clipping 4-bit groups helps clearly, 8 bits at least a little.
      EXPECT_LT(found_sum, (spec.format == WeightFormat::kInt4 ? 0.9 : 1.0) * plain_sum);
    }
  }
}

// One large weight on a channel that is hardly active: absmax would waste the range on it.
TEST(ClipSearch, ClipsAnOutlierThatDoesNotMatter) {
  std::vector<float> weight(16, 0);
  for (size_t i = 0; i < 16; ++i) weight[i] = 0.1F * std::sin(static_cast<float>(i) * 1.7F + 1.0F);
  weight[5] = 0.22F;
  std::vector<float> gram = test::identity_gram(16);
  gram[5 * 17] = 1e-6F;
  ThreadPool pool(1);
  const WeightGrid grid =
      search_clip(weight, 1, 16, {WeightFormat::kInt4, 16, true}, gram, {}, pool);
  EXPECT_LT(grid.scale[0], 0.11F / 7);
}

TEST(ClipSearch, RepresentableWeightsAreReproduced) {
  // Codes times an exact scale: nothing to gain, and the scale must not move.
  std::vector<float> weight(32);
  for (size_t i = 0; i < weight.size(); ++i) {
    weight[i] = 0.25F * static_cast<float>(static_cast<int>(i * 5 % 15) - 7);
  }
  ThreadPool pool(1);
  for (const int64_t group : {int64_t{16}, kPerChannel, kPerTensor}) {
    const WeightGrid grid = search_clip(weight, 2, 16, {WeightFormat::kInt4, group, true},
                                        test::identity_gram(16), {}, pool);
    for (const float scale : grid.scale) EXPECT_EQ(scale, 0.25F);
    EXPECT_EQ(round_trip(grid, weight, pool), weight);
  }
}

TEST(ClipSearch, RefitFindsTheLeastSquaresScale) {
  // Two levels ±a with small noise and a heavy channel: the best scale for codes ±7 is close to
  // the weighted mean magnitude over 7.
  const std::vector<float> weight = {1.00F, -1.06F, 1.04F, -0.98F};
  std::vector<float> gram = test::identity_gram(4);
  gram[0] = 1e4F;
  ThreadPool pool(1);
  const WeightGrid grid = search_clip(weight, 1, 4, {WeightFormat::kInt4, 4, true}, gram, {}, pool);
  const float value = std::nearbyint(1.0F / grid.scale[0]) * grid.scale[0];
  EXPECT_NEAR(value, 1.0F, 1e-4F);
}

TEST(ClipSearch, PrunedWeightsStayZeroAndDoNotCount) {
  std::vector<float> weight = test::random_weight(8, 2, 16);
  std::vector<uint8_t> keep(weight.size());
  for (size_t i = 0; i < keep.size(); ++i) keep[i] = i % 4 < 2 ? 1 : 0;
  std::vector<float> pruned = weight;
  for (size_t i = 0; i < keep.size(); ++i) {
    if (keep[i] == 0) {
      pruned[i] = 0;
      weight[i] = 100.0F;  // would ruin the range
    }
  }
  ThreadPool pool(1);
  for (const bool symmetric : {true, false}) {
    for (const int64_t group : {int64_t{8}, kPerChannel}) {
      const GridSpec spec = {WeightFormat::kInt4, group, symmetric};
      const WeightGrid masked =
          search_clip(weight, 2, 16, spec, test::identity_gram(16), keep, pool);
      const WeightGrid plain = search_clip(pruned, 2, 16, spec, test::identity_gram(16), {}, pool);
      EXPECT_EQ(masked.scale, plain.scale);
      EXPECT_EQ(masked.zero_point, plain.zero_point);
      const std::vector<float> values = round_trip(masked, pruned, pool);
      for (size_t i = 0; i < keep.size(); ++i) {
        if (keep[i] == 0) {
          EXPECT_EQ(values[i], 0.0F);
        }
      }
    }
  }
}

TEST(ClipSearch, DeadBlocksAndZeroWeightsGiveUsableScales) {
  ThreadPool pool(1);
  for (const bool symmetric : {true, false}) {
    const GridSpec spec = {WeightFormat::kInt4, 8, symmetric};
    const std::vector<float> no_gram(256, 0.0F);
    const auto weight = test::random_weight(9, 3, 16);
    const WeightGrid dead = search_clip(weight, 3, 16, spec, no_gram, {}, pool);
    EXPECT_EQ(dead.scale, absmax_grid(weight, 3, 16, spec).scale);
    const std::vector<float> zero(48, 0.0F);
    const WeightGrid empty = search_clip(zero, 3, 16, spec, test::identity_gram(16), {}, pool);
    EXPECT_EQ(empty.scale, std::vector<float>(6, 1.0F));
  }
}

TEST(ClipSearch, NonFiniteWeightsAreRefused) {
  ThreadPool pool(2);
  auto weight = test::random_weight(10, 4, 16);
  weight[20] = NAN;
  for (const int64_t group : {int64_t{8}, kPerChannel, kPerTensor}) {
    EXPECT_THROW(search_clip(weight, 4, 16, {WeightFormat::kInt4, group, true},
                             test::identity_gram(16), {}, pool),
                 Error);
  }
}

TEST(ClipSearch, DoesNotDependOnThreadsAndFollowsARowPermutation) {
  constexpr int64_t kRows = 200;
  constexpr int64_t kColumns = 64;
  const auto x = test::random_activations(20, 128, kColumns, 12);
  const auto gram = mean_gram(test::statistics_of(x, 128, kColumns).gram, 128);
  const auto weight = test::random_weight(21, kRows, kColumns);
  const GridSpec spec = {WeightFormat::kInt4, 32, false};
  ThreadPool one(1);
  const WeightGrid expected = search_clip(weight, kRows, kColumns, spec, gram, {}, one);
  for (const size_t threads : {2, 3}) {
    ThreadPool pool(threads);
    const WeightGrid found = search_clip(weight, kRows, kColumns, spec, gram, {}, pool);
    EXPECT_EQ(found.scale, expected.scale);
    EXPECT_EQ(found.zero_point, expected.zero_point);
  }
  std::vector<float> reversed(weight.size());
  for (int64_t row = 0; row < kRows; ++row) {
    std::copy_n(weight.begin() + row * kColumns, kColumns,
                reversed.begin() + (kRows - 1 - row) * kColumns);
  }
  const WeightGrid found = search_clip(reversed, kRows, kColumns, spec, gram, {}, one);
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t group = 0; group < 2; ++group) {
      // To rounding: the matrix product sums the last rows of a block in another order.
      const float there = found.scale[static_cast<size_t>((kRows - 1 - row) * 2 + group)];
      const float here = expected.scale[static_cast<size_t>(row * 2 + group)];
      EXPECT_NEAR(there, here, 1e-5F * here);
    }
  }
}

}  // namespace
}  // namespace pare
