#include "sparsity/ria.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "pare/error.h"
#include "tests/quant/random_layer.h"

namespace pare {
namespace {

using Mask = std::vector<uint8_t>;

std::vector<double> random_squares(uint32_t seed, size_t count) {
  std::mt19937 random(seed);
  std::vector<double> squares(count);
  for (double& value : squares) value = std::exp2(static_cast<double>(random() % 1000) / 100 - 5);
  return squares;
}

TEST(Ria, IsThePapersFormula) {
  // Rows sum to 4 and 12, columns to 4, 6, 4, 2; norms 16, 1, 4, 0, the largest of them becomes 1.
  const std::vector<float> weight = {1, -2, 0, 1, 3, 4, -4, 1};
  const std::vector<double> square_sum = {256, 1, 16, 0};
  ThreadPool pool(1);
  const std::vector<float> score = ria_score(weight, 2, 4, square_sum, pool);
  const std::vector<double> expected = {
      (1.0 / 4 + 1.0 / 4) * 1,     (2.0 / 4 + 2.0 / 6) * 0.25, 0, 0, (3.0 / 12 + 3.0 / 4) * 1,
      (4.0 / 12 + 4.0 / 6) * 0.25, (4.0 / 12 + 4.0 / 4) * 0.5, 0};
  for (size_t i = 0; i < score.size(); ++i) EXPECT_NEAR(score[i], expected[i], 1e-6) << i;
  EXPECT_EQ(two_of_four_mask(score, 2, 4, pool), (Mask{1, 1, 0, 0, 1, 0, 1, 0}));
}

// A row that is larger, or a column that is, keeps the same.
TEST(Ria, RowsCountAlikeAndSoDoAllOfTheWeights) {
  constexpr int64_t kRows = 70;
  constexpr int64_t kColumns = 32;
  constexpr uint32_t kSeed = 51;
  SCOPED_TRACE(test::seed_text(kSeed));
  std::vector<float> weight = test::random_weight(kSeed, kRows, kColumns);
  std::vector<double> squares = random_squares(kSeed, kColumns);
  ThreadPool pool(2);
  const std::vector<float> score = ria_score(weight, kRows, kColumns, squares, pool);
  for (float& value : weight) value *= -1024;
  for (double& value : squares) value *= 1e40;
  const std::vector<float> scaled = ria_score(weight, kRows, kColumns, squares, pool);
  for (size_t i = 0; i < score.size(); ++i) ASSERT_NEAR(scaled[i], score[i], 1e-6F * score[i]);
}

TEST(Ria, AScaleOfTheInputChangesNothing) {
  constexpr int64_t kRows = 40;
  constexpr int64_t kColumns = 24;
  std::vector<float> weight = test::random_weight(54, kRows, kColumns);
  std::vector<double> squares = random_squares(54, kColumns);
  ThreadPool pool(2);
  const Mask expected = ria_mask(weight, kRows, kColumns, squares, {}, pool);
  std::vector<float> scale;
  for (int64_t j = 0; j < kColumns; ++j) scale.push_back(std::ldexp(1.0F, static_cast<int>(j % 5)));
  for (size_t i = 0; i < weight.size(); ++i) weight[i] *= scale[i % scale.size()];
  for (size_t j = 0; j < squares.size(); ++j) {
    squares[j] /= static_cast<double>(scale[j]) * static_cast<double>(scale[j]);
  }
  EXPECT_EQ(ria_mask(weight, kRows, kColumns, squares, scale, pool), expected);
  EXPECT_NE(ria_mask(weight, kRows, kColumns, squares, {}, pool), expected) << "without effect";
  scale.pop_back();
  EXPECT_THROW(ria_mask(weight, kRows, kColumns, squares, scale, pool), Error);
}

TEST(Ria, DeadRowsColumnsAndChannelsHaveNoScore) {
  constexpr int64_t kRows = 6;
  constexpr int64_t kColumns = 8;
  std::vector<float> weight = test::random_weight(52, kRows, kColumns);
  std::vector<double> squares = random_squares(52, kColumns);
  for (size_t j = 0; j < kColumns; ++j) weight[2 * kColumns + j] = 0;
  for (size_t i = 0; i < kRows; ++i) weight[i * kColumns + 5] = 0;
  squares[1] = 0;
  ThreadPool pool(1);
  const std::vector<float> score = ria_score(weight, kRows, kColumns, squares, pool);
  for (size_t i = 0; i < kRows; ++i) {
    for (size_t j = 0; j < kColumns; ++j) {
      const float value = score[i * kColumns + j];
      ASSERT_TRUE(std::isfinite(value));
      EXPECT_EQ(value > 0, i != 2 && j != 5 && j != 1) << i << " " << j;
    }
  }
  for (const float value : ria_score(weight, kRows, kColumns, std::vector<double>(8, 0.0), pool)) {
    EXPECT_EQ(value, 0);
  }
}

TEST(Ria, IsTheSameForAnyThreads) {
  constexpr int64_t kRows = 200;
  constexpr int64_t kColumns = 36;
  const std::vector<float> weight = test::random_weight(53, kRows, kColumns);
  const std::vector<double> squares = random_squares(53, kColumns);
  ThreadPool one(1);
  const std::vector<float> expected = ria_score(weight, kRows, kColumns, squares, one);
  const Mask keep = two_of_four_mask(expected, kRows, kColumns, one);
  for (const size_t threads : {2U, 5U}) {
    ThreadPool pool(threads);
    EXPECT_EQ(ria_score(weight, kRows, kColumns, squares, pool), expected);
    EXPECT_EQ(two_of_four_mask(expected, kRows, kColumns, pool), keep);
  }
}

TEST(Ria, WrongShapesAreRefused) {
  ThreadPool pool(1);
  const std::vector<float> weight(12, 1.0F);
  const std::vector<double> squares(4, 1.0);
  EXPECT_THROW(ria_score(weight, 2, 4, squares, pool), Error);
  EXPECT_THROW(ria_score(weight, 3, 4, std::vector<double>(3, 1.0), pool), Error);
  EXPECT_THROW(ria_score(weight, 0, 0, {}, pool), Error);
  try {
    two_of_four_mask(weight, 2, 6, pool);
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
  }
  EXPECT_THROW(two_of_four_mask(weight, 2, 4, pool), Error);
}

}  // namespace
}  // namespace pare
