#include "sparsity/masks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "pare/error.h"

namespace pare {
namespace {

using Mask = std::vector<uint8_t>;

TEST(Masks, MagnitudeKeepsTheTwoLargest) {
  const std::vector<float> weight = {1, -4, 3, 2, 0, 0, -1, 5};
  ThreadPool pool(1);
  EXPECT_EQ(magnitude_mask(weight, 1, 8, pool), (Mask{0, 1, 1, 0, 0, 0, 1, 1}));
  EXPECT_EQ(magnitude_mask(weight, 2, 4, pool), (Mask{0, 1, 1, 0, 0, 0, 1, 1}));
}

TEST(Masks, OfEqualScoresTheLowerIndexIsKept) {
  ThreadPool pool(1);
  EXPECT_EQ(magnitude_mask(std::vector<float>{1, 1, 1, 1}, 1, 4, pool), (Mask{1, 1, 0, 0}));
  EXPECT_EQ(magnitude_mask(std::vector<float>{0, 0, 0, 0}, 1, 4, pool), (Mask{1, 1, 0, 0}));
  EXPECT_EQ(magnitude_mask(std::vector<float>{1, 2, -1, 1}, 1, 4, pool), (Mask{1, 1, 0, 0}));
  EXPECT_EQ(magnitude_mask(std::vector<float>{0, 2, -1, 1}, 1, 4, pool), (Mask{0, 1, 1, 0}));
}

TEST(Masks, WandaWeighsByTheNormOfTheInput) {
  // Scores 1·2, 3·1, 2·1.5, 4·0.1.
  const std::vector<float> weight = {1, -3, 2, 4};
  const std::vector<double> square_sum = {4, 1, 2.25, 0.01};
  ThreadPool pool(1);
  EXPECT_EQ(wanda_mask(weight, 1, 4, square_sum, pool), (Mask{0, 1, 1, 0}));
  // A common factor changes nothing, even a huge one.
  std::vector<double> scaled = square_sum;
  for (double& value : scaled) value *= 1e80;
  EXPECT_EQ(wanda_mask(weight, 1, 4, scaled, pool), (Mask{0, 1, 1, 0}));
  // Equal norms: magnitude. Channels that were never active: the lower indices.
  EXPECT_EQ(wanda_mask(weight, 1, 4, std::vector<double>(4, 7.0), pool), (Mask{0, 1, 0, 1}));
  EXPECT_EQ(wanda_mask(weight, 1, 4, std::vector<double>(4, 0.0), pool), (Mask{1, 1, 0, 0}));
}

TEST(Masks, ExactlyTwoOfFourWhateverTheWeights) {
  constexpr uint32_t kSeed = 77;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  std::mt19937 random(kSeed);
  std::vector<float> weight(300 * 64);
  for (float& value : weight) {
    const auto pick = random() % 6;
    value = pick == 0   ? 0.0F
            : pick == 1 ? NAN
            : pick == 2 ? INFINITY
                        : static_cast<float>(static_cast<int>(random() % 7) - 3);
  }
  ThreadPool one(1);
  const Mask expected = magnitude_mask(weight, 300, 64, one);
  for (size_t i = 0; i < expected.size(); i += 4) {
    ASSERT_EQ(expected[i] + expected[i + 1] + expected[i + 2] + expected[i + 3], 2);
    float kept = INFINITY;
    float pruned = 0;
    for (size_t k = i; k < i + 4; ++k) {
      if (std::isnan(weight[k])) continue;
      if (expected[k] != 0) {
        kept = std::min(kept, std::abs(weight[k]));
      } else {
        pruned = std::max(pruned, std::abs(weight[k]));
      }
    }
    ASSERT_LE(pruned, kept);
  }
  for (const size_t threads : {2, 3}) {
    ThreadPool pool(threads);
    EXPECT_EQ(magnitude_mask(weight, 300, 64, pool), expected);
  }
}

TEST(Masks, WrongShapesAreRefused) {
  const std::vector<float> weight(12, 1.0F);
  ThreadPool pool(1);
  try {
    magnitude_mask(weight, 2, 6, pool);
    ADD_FAILURE() << "accepted 6 channels";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
  }
  EXPECT_THROW(magnitude_mask(weight, 2, 4, pool), Error);
  EXPECT_THROW(wanda_mask(weight, 3, 4, std::vector<double>(3, 1.0), pool), Error);
}

}  // namespace
}  // namespace pare
