// The kernel behind acceptance: Σ max(p − q, 0), and Σ min(p, q) made from it.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "eval/speculative.h"
#include "kernels/vector_math.h"
#include "kernels/vector_math_reference.h"
#include "tests/kernels/each_target.h"

namespace pare {
namespace {

constexpr unsigned kSeed = 16180;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> normal_row(size_t size, unsigned seed, float mean, float deviation) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(mean, deviation);
  std::vector<float> row(size);
  for (float& value : row) value = normal(generator);
  return row;
}

double excess(const std::vector<float>& p, const std::vector<float>& q) {
  return excess_probability(p, log_sum_exp(p).log_sum_exp, q, log_sum_exp(q).log_sum_exp);
}

double acceptance(const std::vector<float>& target, const std::vector<float>& draft) {
  return acceptance_probability(target, log_sum_exp(target).log_sum_exp, draft,
                                log_sum_exp(draft).log_sum_exp);
}

std::vector<float> logs(std::initializer_list<float> probabilities) {
  std::vector<float> row;
  for (const float p : probabilities) row.push_back(std::log(p));
  return row;
}

TEST(ExcessProbability, EqualsReferenceFromTinyToLarge) {
  for_each_target([] {
    for (const size_t size : {1U, 5U, 31U, 32U, 1024U, 1025U, 32000U}) {
      const auto p = normal_row(size, kSeed, 2, 3);
      for (const float change : {0.0001F, 0.01F, 0.1F, 1.0F, 8.0F}) {
        auto q = p;
        const auto noise = normal_row(size, kSeed + 1, 0.5F, change);
        for (size_t i = 0; i < size; ++i) q[i] += noise[i];
        const double expected = reference::excess_probability(
            p, reference::log_sum_exp(p).log_sum_exp, q, reference::log_sum_exp(q).log_sum_exp);
        EXPECT_NEAR(excess(p, q), expected, 1e-6)
            << "size " << size << ", change " << change << ", seed " << kSeed;
        EXPECT_NEAR(excess(q, p), expected, 1e-6);  // total variation is symmetric
      }
    }
  });
}

TEST(ExcessProbability, OfARowWithItselfIsZero) {
  for_each_target([] {
    for (const size_t size : {1U, 17U, 4000U, 50000U}) {
      const auto p = normal_row(size, kSeed, 2, 3);
      EXPECT_EQ(excess(p, p), 0.0);
      auto moved = p;  // changes no probability
      for (float& value : moved) value += 16.0F;
      EXPECT_NEAR(excess(p, moved), 0.0, 1e-6);
    }
  });
}

TEST(ExcessProbability, KnownValuesAndImpossibleTokens) {
  for_each_target([] {
    EXPECT_NEAR(excess(logs({0.25F, 0.75F}), {5.0F, 5.0F}), 0.25, 1e-7);
    const std::vector<float> first = {0.0F, -kInfinity};
    const std::vector<float> second = {-kInfinity, 3.0F};
    EXPECT_EQ(excess(first, second), 1.0);
    EXPECT_EQ(excess(first, first), 0.0);
    EXPECT_NEAR(excess({0.0F, 0.0F}, second), 0.5, 1e-7);
    EXPECT_EQ(excess_probability({}, 0, {}, 0), 0.0);
  });
}

TEST(AcceptanceProbability, OfHandMadeDistributions) {
  // Σ min: 0.1 + 0.3 + 0.2
  EXPECT_NEAR(acceptance(logs({0.1F, 0.3F, 0.6F}), logs({0.3F, 0.5F, 0.2F})), 0.6, 1e-6);
  EXPECT_NEAR(acceptance(logs({0.25F, 0.25F, 0.5F}), logs({0.25F, 0.25F, 0.5F})), 1, 0);
  EXPECT_EQ(acceptance({0.0F, -kInfinity}, {-kInfinity, 0.0F}), 0);
}

TEST(AcceptanceProbability, IsTheSumOfMinima) {
  const auto p = normal_row(1000, kSeed, 0, 2);
  for (const float change : {0.01F, 0.3F, 3.0F}) {
    auto q = normal_row(1000, kSeed + 2, 0, change);
    for (size_t i = 0; i < q.size(); ++i) q[i] += p[i];
    const double p_sum = reference::log_sum_exp(p).log_sum_exp;
    const double q_sum = reference::log_sum_exp(q).log_sum_exp;
    double expected = 0;
    for (size_t i = 0; i < p.size(); ++i) {
      expected += std::min(std::exp(static_cast<double>(p[i]) - p_sum),
                           std::exp(static_cast<double>(q[i]) - q_sum));
    }
    EXPECT_NEAR(acceptance(p, q), expected, 1e-6) << "seed " << kSeed << ", change " << change;
  }
}

TEST(AcceptanceProbability, TokensThatOneModelDoesNotHaveAreRejected) {
  const std::vector<float> small = logs({0.5F, 0.5F});
  const std::vector<float> large = logs({0.4F, 0.3F, 0.2F, 0.1F});
  // Either way round: min(0.5, 0.4) + min(0.5, 0.3).
  EXPECT_NEAR(acceptance(large, small), 0.7, 1e-6);
  EXPECT_NEAR(acceptance(small, large), 0.7, 1e-6);
  const std::vector<float> padded = {std::log(0.5F), std::log(0.5F), -kInfinity, -kInfinity};
  EXPECT_EQ(acceptance(padded, small), 1);
  EXPECT_EQ(acceptance(small, padded), 1);
}

}  // namespace
}  // namespace pare
