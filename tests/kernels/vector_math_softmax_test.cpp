#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "core/dtype.h"
#include "kernels/vector_math.h"
#include "kernels/vector_math_reference.h"
#include "tests/kernels/each_target.h"

namespace pare {
namespace {

constexpr unsigned kSeed = 7151;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> normal_row(size_t size, unsigned seed, float mean, float deviation) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(mean, deviation);
  std::vector<float> row(size);
  for (float& value : row) value = normal(generator);
  return row;
}

TEST(MaxRow, EqualsReference) {
  for_each_target([] {
    for (const size_t size : kOddSizes) {
      const auto x = normal_row(size, kSeed, -5, 2);
      EXPECT_EQ(max_row(x), reference::max_row(x)) << size;
    }
  });
}

TEST(MaxRow, FindsTheMaximumAndNanAnywhere) {
  for_each_target([] {
    for (const size_t size : {1U, 5U, 16U, 33U, 100U}) {
      for (size_t place = 0; place < size; ++place) {
        std::vector<float> x(size, -3.0F);
        x[place] = -2.0F;
        EXPECT_EQ(max_row(x), -2.0F);
        const LogSoftmaxSums sums = log_sum_exp(x);
        EXPECT_EQ(sums.argmax, static_cast<int64_t>(place));
        x[place] = kNan;
        EXPECT_TRUE(std::isnan(max_row(x))) << place << " of " << size;
        EXPECT_TRUE(std::isnan(log_sum_exp(x).log_sum_exp));
      }
    }
    EXPECT_EQ(max_row({}), -kInfinity);
  });
}

TEST(ExpSumRow, IsWithinThreeTenMillionths) {
  for_each_target([] {
    std::vector<float> scores;
    for (int i = 0; i <= 80000; ++i) scores.push_back(static_cast<float>(-i) * 1e-3F);
    std::vector<float> found(scores.size());
    std::vector<float> expected(scores.size());
    const float sum = exp_sum_row(scores, 1.0F, 0.0F, found);
    const float expected_sum = reference::exp_sum_row(scores, 1.0F, 0.0F, expected);
    for (size_t i = 0; i < scores.size(); ++i) {
      ASSERT_NEAR(found[i], expected[i], expected[i] * 3e-7F) << scores[i];
    }
    EXPECT_NEAR(sum, expected_sum, expected_sum * 3e-7F);
    EXPECT_EQ(found[0], 1.0F);
  });
}

TEST(ExpSumRow, SizesScalesAndBf16) {
  for_each_target([] {
    for (const size_t size : kOddSizes) {
      const auto scores = normal_row(size, kSeed, 3, 20);
      const float scale = 0.125F;
      const float row_max = size == 0 ? 0.0F : max_row(scores) * scale;
      std::vector<float> floats(size);
      std::vector<float> expected(size);
      std::vector<uint16_t> bf16(size);
      const float sum = exp_sum_row(scores, scale, row_max, floats);
      const float plain_sum = reference::exp_sum_row(scores, scale, row_max, expected);
      EXPECT_NEAR(sum, plain_sum, plain_sum * 3e-7F) << size;
      EXPECT_EQ(exp_sum_row(scores, scale, row_max, bf16), sum);
      for (size_t i = 0; i < size; ++i) {
        ASSERT_NEAR(floats[i], expected[i], expected[i] * 3e-7F);
        ASSERT_EQ(bf16[i], f32_to_bf16(floats[i])) << i << " of " << size;
      }
    }
  });
}

TEST(ExpSumRow, MaskedScoresAreExactlyZero) {
  for_each_target([] {
    std::vector<float> scores(37, -kInfinity);
    scores[5] = 2.0F;
    scores[36] = 2.0F;
    std::vector<float> out(scores.size(), -1.0F);
    EXPECT_EQ(exp_sum_row(scores, 0.5F, 1.0F, out), 2.0F);
    for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], i == 5 || i == 36 ? 1.0F : 0.0F);
    scores[7] = kNan;
    EXPECT_TRUE(std::isnan(exp_sum_row(scores, 0.5F, 1.0F, out)));
    EXPECT_TRUE(std::isnan(out[7]));
  });
}

TEST(LogSumExp, EqualsReference) {
  for_each_target([] {
    for (const size_t size : {1U, 2U, 31U, 1024U, 1025U, 49152U, 128256U}) {
      const auto logits = normal_row(size, kSeed + static_cast<unsigned>(size), -4, 3);
      const LogSoftmaxSums found = log_sum_exp(logits);
      const LogSoftmaxSums expected = reference::log_sum_exp(logits);
      EXPECT_EQ(found.max, expected.max);
      EXPECT_EQ(found.argmax, expected.argmax);
      EXPECT_NEAR(found.log_sum_exp, expected.log_sum_exp, 3e-7) << size;
    }
  });
}

TEST(LogSumExp, KnownValuesAndTies) {
  for_each_target([] {
    const std::vector<float> equal(1000, 1.5F);
    const LogSoftmaxSums sums = log_sum_exp(equal);
    EXPECT_EQ(sums.argmax, 0);
    EXPECT_NEAR(sums.log_sum_exp, 1.5 + std::log(1000.0), 1e-12);
    const std::vector<float> one = {-2.25F};
    EXPECT_EQ(log_sum_exp(one).log_sum_exp, -2.25);
    const std::vector<float> masked(9, -kInfinity);
    EXPECT_EQ(log_sum_exp(masked).log_sum_exp, -std::numeric_limits<double>::infinity());
  });
}

double divergence(const std::vector<float>& base, const std::vector<float>& other) {
  return kl_divergence(base, log_sum_exp(base).log_sum_exp, other, log_sum_exp(other).log_sum_exp);
}

TEST(KlDivergence, EqualsReferenceFromTinyToLarge) {
  for_each_target([] {
    for (const size_t size : {5U, 32U, 1025U, 32000U}) {
      const auto base = normal_row(size, kSeed, 2, 3);
      for (const float change : {0.001F, 0.01F, 0.1F, 1.0F, 8.0F}) {
        auto other = base;
        const auto noise = normal_row(size, kSeed + 1, 0.5F, change);
        for (size_t i = 0; i < size; ++i) other[i] += noise[i];
        const double expected =
            reference::kl_divergence(base, reference::log_sum_exp(base).log_sum_exp, other,
                                     reference::log_sum_exp(other).log_sum_exp);
        EXPECT_NEAR(divergence(base, other), expected, expected * 1e-5 + 1e-9)
            << "size " << size << ", change " << change << ", seed " << kSeed;
      }
    }
  });
}

TEST(KlDivergence, OfARowWithItselfIsZero) {
  for_each_target([] {
    for (const size_t size : {1U, 17U, 4000U}) {
      const auto base = normal_row(size, kSeed, 2, 3);
      EXPECT_EQ(divergence(base, base), 0.0);
      // A constant added to all logits changes no probability.
      auto moved = base;
      for (float& value : moved) value += 16.0F;
      EXPECT_NEAR(divergence(base, moved), 0.0, 1e-9);
    }
  });
}

TEST(KlDivergence, KnownValuesAndImpossibleTokens) {
  for_each_target([] {
    // p = (1/4, 3/4), q = (1/2, 1/2): log 2 − H(p).
    const std::vector<float> p = {0.0F, std::log(3.0F)};
    const std::vector<float> q = {5.0F, 5.0F};
    EXPECT_NEAR(divergence(p, q), 0.25 * std::log(0.5) + 0.75 * std::log(1.5), 1e-7);
    const std::vector<float> only_second = {-kInfinity, 0.0F};
    EXPECT_NEAR(divergence(only_second, q), std::log(2.0), 1e-7);
    EXPECT_EQ(divergence(q, only_second), std::numeric_limits<double>::infinity());
    EXPECT_EQ(divergence(only_second, only_second), 0.0);
  });
}

}  // namespace
}  // namespace pare
