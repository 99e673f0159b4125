#include "sparsity/linear_assignment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "pare/error.h"

namespace pare {
namespace {

double sum_of(const std::vector<float>& gain, const std::vector<int32_t>& job) {
  double sum = 0;
  for (size_t i = 0; i < job.size(); ++i) {
    sum += static_cast<double>(gain[i * job.size() + static_cast<size_t>(job[i])]);
  }
  return sum;
}

double best_of_all(const std::vector<float>& gain, size_t n) {
  std::vector<int32_t> job(n);
  std::iota(job.begin(), job.end(), 0);
  double best = -std::numeric_limits<double>::infinity();
  do {
    best = std::max(best, sum_of(gain, job));
  } while (std::next_permutation(job.begin(), job.end()));
  return best;
}

void expect_permutation(std::vector<int32_t> job) {
  std::sort(job.begin(), job.end());
  for (size_t i = 0; i < job.size(); ++i) ASSERT_EQ(job[i], static_cast<int32_t>(i));
}

TEST(LinearAssignment, IsTheBestOfAll) {
  constexpr uint32_t kSeed = 41;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  std::mt19937 random(kSeed);
  for (size_t n = 1; n <= 7; ++n) {
    for (int trial = 0; trial < 60; ++trial) {
      std::vector<float> gain(n * n);
      // Few different values: many ties. Or negative ones, or of very different sizes.
      for (float& value : gain) {
        const auto draw = static_cast<float>(random() % 1000);
        value = trial % 3 == 0 ? std::floor(draw / 300) : trial % 3 == 1 ? draw - 500 : draw * draw;
      }
      const std::vector<int32_t> job = best_assignment(gain, static_cast<int64_t>(n));
      expect_permutation(job);
      ASSERT_NEAR(sum_of(gain, job), best_of_all(gain, n), 1e-3) << n << " trial " << trial;
    }
  }
}

// Permuting workers permutes the answer; there is one best.
TEST(LinearAssignment, FindsAHiddenAssignment) {
  constexpr size_t kSize = 200;
  constexpr uint32_t kSeed = 42;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  std::mt19937 random(kSeed);
  std::vector<int32_t> hidden(kSize);
  std::iota(hidden.begin(), hidden.end(), 0);
  std::shuffle(hidden.begin(), hidden.end(), random);
  // gain = u_i + v_j − noise, without noise on the hidden one: nothing greedy finds it.
  std::uniform_real_distribution<float> uniform(0, 1);
  std::vector<float> of_worker(kSize);
  std::vector<float> of_job(kSize);
  for (float& value : of_worker) value = 10 * uniform(random);
  for (float& value : of_job) value = 10 * uniform(random);
  std::vector<float> gain(kSize * kSize);
  for (size_t i = 0; i < kSize; ++i) {
    for (size_t j = 0; j < kSize; ++j) {
      const float noise = hidden[i] == static_cast<int32_t>(j) ? 0 : 0.01F + uniform(random);
      gain[i * kSize + j] = of_worker[i] + of_job[j] - noise;
    }
  }
  EXPECT_EQ(best_assignment(gain, kSize), hidden);
}

TEST(LinearAssignment, OfNothingAndOfEquals) {
  EXPECT_TRUE(best_assignment({}, 0).empty());
  expect_permutation(best_assignment(std::vector<float>(25, 3.0F), 5));
}

TEST(LinearAssignment, WhatIsNoNumberIsRefused) {
  for (const float value : {NAN, INFINITY, -INFINITY}) {
    const std::vector<float> gain = {1, 2, value, 4};
    EXPECT_THROW(best_assignment(gain, 2), Error);
  }
  EXPECT_THROW(best_assignment(std::vector<float>(5), 2), Error);
  EXPECT_THROW(best_assignment(std::vector<float>(1), -1), Error);
}

}  // namespace
}  // namespace pare
