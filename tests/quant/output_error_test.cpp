#include "quant/output_error.h"

#include <gtest/gtest.h>

#include "pare/error.h"
#include "tests/quant/random_layer.h"

namespace pare {
namespace {

TEST(OutputError, HandComputed) {
  // H = [2 1; 1 3]: (1, 2) → 2 + 4 + 12 = 18; (−1, 1) → 2 − 2 + 3 = 3.
  const std::vector<float> gram = {2, 1, 1, 3};
  const std::vector<float> delta = {1, 2, -1, 1};
  ThreadPool pool(1);
  EXPECT_EQ(output_error(delta, 2, 2, gram, pool), 21.0);
  // A diagonal stands for a matrix without correlation.
  const std::vector<float> diagonal = {2, 3};
  EXPECT_EQ(output_error(delta, 2, 2, diagonal, pool), 14.0 + 5.0);
  EXPECT_EQ(output_error({}, 0, 2, gram, pool), 0.0);
}

TEST(OutputError, EqualsTheErrorOfTheTokens) {
  constexpr int64_t kTokens = 96;
  constexpr int64_t kRows = 70;
  constexpr int64_t kColumns = 36;
  constexpr uint32_t kSeed = 5;
  SCOPED_TRACE(test::seed_text(kSeed));
  const auto x = test::random_activations(kSeed, kTokens, kColumns, 10);
  const auto delta = test::random_weight(kSeed + 1, kRows, kColumns);
  const InputStatistics statistics = test::statistics_of(x, kTokens, kColumns);
  const double expected = test::direct_output_error(x, delta, kTokens, kRows, kColumns);
  ThreadPool pool(2);
  const double found =
      output_error(delta, kRows, kColumns, mean_gram(statistics.gram, kTokens), pool);
  EXPECT_NEAR(found, expected, 1e-5 * expected);
}

TEST(OutputError, DoesNotDependOnThreads) {
  const auto delta = test::random_weight(1, 500, 72);
  const auto gram = test::random_weight(2, 72, 72);
  ThreadPool one(1);
  const double expected = output_error(delta, 500, 72, gram, one);
  for (const size_t threads : {2, 3}) {
    ThreadPool pool(threads);
    EXPECT_EQ(output_error(delta, 500, 72, gram, pool), expected);
  }
}

TEST(OutputError, SizesThatDisagreeAreRefused) {
  ThreadPool pool(1);
  const std::vector<float> delta(6);
  const std::vector<float> gram(5);
  EXPECT_THROW(output_error(delta, 2, 3, gram, pool), Error);
  EXPECT_THROW(output_error(delta, 2, 4, std::vector<float>(16), pool), Error);
}

TEST(MeanGram, DividesByTokens) {
  EXPECT_EQ(mean_gram(std::vector<double>{4, 2, 2, 8}, 4), (std::vector<float>{1, 0.5F, 0.5F, 2}));
  // Without tokens there is nothing to divide, and nothing to be NaN.
  EXPECT_EQ(mean_gram(std::vector<double>{0, 0, 0, 0}, 0), std::vector<float>(4, 0.0F));
}

}  // namespace
}  // namespace pare
