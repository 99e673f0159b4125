#include "quant/obs_solver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "pare/error.h"
#include "tests/quant/obs_reference.h"
#include "tests/quant/random_layer.h"

namespace pare {
namespace {

struct Layer {
  int64_t rows;
  int64_t columns;
  std::vector<float> weight;
  InverseFactor factor;

  Layer(uint32_t seed, int64_t out_features, int64_t in_features)
      : rows(out_features), columns(in_features) {
    const auto x = test::random_activations(seed, 2 * columns, columns, 4);
    const auto gram = test::statistics_of(x, 2 * columns, columns).gram;
    weight = test::random_weight(seed + 1000, rows, columns);
    factor = factorize_inverse(gram, columns, 0.01, "layer");
  }
  ObsProblem problem() const {
    ObsProblem result;
    result.out_features = rows;
    result.in_features = columns;
    result.weight = weight;
    result.factor = &factor;
    return result;
  }
};

std::vector<double> unit_gram(int64_t columns) {
  const std::vector<float> gram = test::identity_gram(columns);
  return {gram.begin(), gram.end()};
}

// More columns than one block, so that the lazy update behind a block takes part.
TEST(ObsSolver, ChosenMaskEqualsThePlainLoop) {
  for (const uint32_t seed : {1U, 2U}) {
    SCOPED_TRACE(test::seed_text(seed));
    const Layer layer(seed, 70, 300);
    ObsProblem problem = layer.problem();
    problem.choose_mask = true;
    ThreadPool pool(2);
    const ObsSolution found = solve_obs(problem, pool);
    const auto expected =
        test::solve_plainly(layer.weight, layer.rows, layer.factor, true, {}, nullptr);
    // Float and double may choose differently at a near tie, and the rest of that row with it.
    int64_t equal_rows = 0;
    for (int64_t row = 0; row < layer.rows; ++row) {
      const auto first = row * layer.columns;
      if (!std::equal(found.keep.begin() + first, found.keep.begin() + first + layer.columns,
                      expected.keep.begin() + first)) {
        continue;
      }
      ++equal_rows;
      for (int64_t i = first; i < first + layer.columns; ++i) {
        const auto index = static_cast<size_t>(i);
        ASSERT_NEAR(found.weight[index], expected.weight[index], 2e-5);
      }
    }
    EXPECT_GE(equal_rows, layer.rows - 2);
  }
}

TEST(ObsSolver, GivenMaskEqualsThePlainLoop) {
  const Layer layer(3, 66, 260);
  std::vector<uint8_t> keep(layer.weight.size());
  for (size_t i = 0; i < keep.size(); ++i) keep[i] = (i * 7 + i / 5) % 3 != 0 ? 1 : 0;
  ObsProblem problem = layer.problem();
  problem.keep = keep;
  ThreadPool pool(1);
  const ObsSolution found = solve_obs(problem, pool);
  const auto expected =
      test::solve_plainly(layer.weight, layer.rows, layer.factor, false, keep, nullptr);
  EXPECT_EQ(found.keep, keep);
  for (size_t i = 0; i < keep.size(); ++i) {
    ASSERT_NEAR(found.weight[i], expected.weight[i], 2e-5);
    if (keep[i] == 0) {
      ASSERT_EQ(found.weight[i], 0.0F);
    }
  }
}

TEST(ObsSolver, RoundingEqualsThePlainLoop) {
  const Layer layer(4, 65, 200);
  ThreadPool pool(2);
  for (const WeightFormat format : {WeightFormat::kInt8, WeightFormat::kFp8E4m3}) {
    for (const int64_t group : {kPerTensor, kPerChannel}) {
      ObsProblem problem = layer.problem();
      problem.grid = absmax_grid(layer.weight, layer.rows, layer.columns, {format, group, true});
      const ObsSolution found = solve_obs(problem, pool);
      const auto expected =
          test::solve_plainly(layer.weight, layer.rows, layer.factor, false, {}, &*problem.grid);
      EXPECT_TRUE(found.keep.empty());
      EXPECT_EQ(found.grid->scale, problem.grid->scale);
      // A weight next to a rounding boundary may fall to either side: count, do not compare.
      size_t different = 0;
      for (size_t i = 0; i < found.weight.size(); ++i) {
        different += std::abs(static_cast<double>(found.weight[i]) - expected.weight[i]) > 1e-6;
      }
      EXPECT_LT(different, found.weight.size() / 50);
    }
  }
}

TEST(ObsSolver, CodesAndValuesAgree) {
  const Layer layer(5, 40, 136);
  ThreadPool pool(1);
  for (const bool choose : {false, true}) {
    for (const GridSpec& spec :
         {GridSpec{WeightFormat::kInt4, 32, true}, GridSpec{WeightFormat::kInt4, 64, false},
          GridSpec{WeightFormat::kInt4, 160, true},
          GridSpec{WeightFormat::kInt8, kPerChannel, true},
          GridSpec{WeightFormat::kFp8E4m3, kPerTensor, true}}) {
      ObsProblem problem = layer.problem();
      problem.choose_mask = choose;
      problem.grid = absmax_grid(layer.weight, layer.rows, layer.columns, spec);
      const ObsSolution found = solve_obs(problem, pool);
      // Rounding what is on the grid gives it back, with the same codes.
      EXPECT_EQ(round_trip(*found.grid, found.weight, pool), found.weight);
      EXPECT_EQ(encode(*found.grid, found.weight, pool), found.codes);
      EXPECT_EQ(found.keep.size(), choose ? found.weight.size() : 0);
      for (size_t i = 0; i < found.keep.size(); i += 4) {
        EXPECT_EQ(found.keep[i] + found.keep[i + 1] + found.keep[i + 2] + found.keep[i + 3], 2);
      }
      for (size_t i = 0; i < found.keep.size(); ++i) {
        if (found.keep[i] == 0) {
          ASSERT_EQ(found.weight[i], 0.0F);
        }
      }
    }
  }
}

TEST(ObsSolver, IdentityGramIsRoundToNearest) {
  constexpr int64_t kRows = 20;
  constexpr int64_t kColumns = 260;
  const auto weight = test::random_weight(6, kRows, kColumns);
  const InverseFactor factor = factorize_inverse(unit_gram(kColumns), kColumns, 0.01, "layer");
  ThreadPool pool(2);
  for (const GridSpec& spec :
       {GridSpec{WeightFormat::kInt4, 64, true}, GridSpec{WeightFormat::kInt4, 100, false},
        GridSpec{WeightFormat::kInt8, kPerChannel, true}}) {
    ObsProblem problem;
    problem.out_features = kRows;
    problem.in_features = kColumns;
    problem.weight = weight;
    problem.factor = &factor;
    problem.grid = absmax_grid(weight, kRows, kColumns, spec);
    const ObsSolution found = solve_obs(problem, pool);
    EXPECT_EQ(found.grid->scale, problem.grid->scale);
    EXPECT_EQ(found.weight, round_trip(*problem.grid, weight, pool));
  }
}

TEST(ObsSolver, DeadChannelsAreRoundedAndPrunedFirst) {
  constexpr int64_t kColumns = 8;
  std::vector<double> gram = unit_gram(kColumns);
  gram[1 * 9] = 0;  // channel 1 and 6 never active
  gram[6 * 9] = 0;
  for (double& value : gram) value *= 1e-3;  // so that a live channel scores below a dead one's 1
  const InverseFactor factor = factorize_inverse(gram, kColumns, 0.01, "layer");
  const std::vector<float> weight = {0.1F, 5.0F, 0.2F, 0.3F, 0.1F, 0.3F, 9.0F, 0.2F};
  ObsProblem problem;
  problem.out_features = 1;
  problem.in_features = kColumns;
  problem.weight = weight;
  problem.factor = &factor;
  problem.choose_mask = true;
  ThreadPool pool(1);
  EXPECT_EQ(solve_obs(problem, pool).keep, (std::vector<uint8_t>{0, 0, 1, 1, 0, 1, 0, 1}));
}

TEST(ObsSolver, FitGroupSeesTheKeptWeightsOfItsGroup) {
  const Layer layer(7, 10, 64);
  ObsProblem problem = layer.problem();
  problem.choose_mask = true;
  problem.grid =
      absmax_grid(layer.weight, layer.rows, layer.columns, {WeightFormat::kInt4, 16, true});
  std::vector<int> calls(static_cast<size_t>(layer.rows * 4));
  problem.fit_group = [&](WeightGrid& grid, int64_t row, int64_t group,
                          std::span<const float> values, std::span<const uint8_t> keep) {
    ++calls[static_cast<size_t>(row * 4 + group)];
    ASSERT_EQ(values.size(), 16U);
    ASSERT_EQ(keep.size(), 16U);
    EXPECT_EQ(std::count(keep.begin(), keep.end(), 1), 8);
    for (size_t i = 0; i < 16; ++i) {
      if (keep[i] == 0) {
        EXPECT_EQ(values[i], 0.0F);
      }
    }
    grid.scale[grid.scale_index(row, group * 16)] = 0.25F;
  };
  ThreadPool pool(3);
  const ObsSolution found = solve_obs(problem, pool);
  EXPECT_EQ(calls, std::vector<int>(calls.size(), 1));
  EXPECT_EQ(found.grid->scale, std::vector<float>(calls.size(), 0.25F));
}

TEST(ObsSolver, DoesNotDependOnThreads) {
  const Layer layer(8, 300, 260);
  for (const bool choose : {false, true}) {
    ObsProblem problem = layer.problem();
    problem.choose_mask = choose;
    problem.grid =
        absmax_grid(layer.weight, layer.rows, layer.columns, {WeightFormat::kInt4, 64, true});
    problem.search_group_scale = true;
    ThreadPool one(1);
    const ObsSolution expected = solve_obs(problem, one);
    for (const size_t threads : {2, 3}) {
      ThreadPool pool(threads);
      const ObsSolution found = solve_obs(problem, pool);
      EXPECT_EQ(found.weight, expected.weight);
      EXPECT_EQ(found.keep, expected.keep);
      EXPECT_EQ(found.codes, expected.codes);
      EXPECT_EQ(found.grid->scale, expected.grid->scale);
    }
  }
}

TEST(ObsSolver, ProblemsThatCannotBeSolvedAreRefused) {
  const Layer layer(9, 4, 10);
  ThreadPool pool(1);
  ObsProblem problem = layer.problem();
  problem.choose_mask = true;  // 10 % 4 ≠ 0
  EXPECT_THROW(solve_obs(problem, pool), Error);

  problem = layer.problem();
  std::vector<float> bad = layer.weight;
  bad[7] = NAN;
  problem.weight = bad;
  EXPECT_THROW(solve_obs(problem, pool), Error);

  problem = layer.problem();
  problem.factor = nullptr;
  EXPECT_THROW(solve_obs(problem, pool), Error);

  problem = layer.problem();
  const std::vector<uint8_t> short_mask(5, 1);
  problem.keep = short_mask;
  EXPECT_THROW(solve_obs(problem, pool), Error);
}

}  // namespace
}  // namespace pare
