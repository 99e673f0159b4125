#include "calib/permuted_statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "pare/error.h"

namespace pare {
namespace {

InputStatistics random_statistics(size_t channels, size_t tokens, std::mt19937& random) {
  InputStatistics statistics;
  statistics.in_features = static_cast<int64_t>(channels);
  statistics.tokens = 77;
  statistics.sample_tokens = static_cast<int64_t>(tokens);
  const auto fill = [&](auto& values, size_t count) {
    values.resize(count);
    for (auto& value : values) {
      value = static_cast<std::remove_reference_t<decltype(value)>>(random() % 60000);
    }
  };
  fill(statistics.amax, channels);
  fill(statistics.mean_abs, channels);
  fill(statistics.square_sum, channels);
  fill(statistics.gram, channels * channels);
  fill(statistics.mismatch, channels * channels);
  fill(statistics.sample, channels * tokens);
  return statistics;
}

TEST(PermutedStatistics, AreThoseOfThePermutedInput) {
  constexpr size_t kChannels = 23;
  constexpr size_t kTokens = 5;
  constexpr uint32_t kSeed = 71;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  std::mt19937 random(kSeed);
  const InputStatistics given = random_statistics(kChannels, kTokens, random);
  std::vector<int32_t> order(kChannels);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  const InputStatistics found = permute(given, order);
  EXPECT_EQ(found.tokens, given.tokens);
  EXPECT_EQ(found.sample_tokens, given.sample_tokens);
  for (size_t i = 0; i < kChannels; ++i) {
    const auto from = static_cast<size_t>(order[i]);
    EXPECT_EQ(found.amax[i], given.amax[from]);
    EXPECT_EQ(found.mean_abs[i], given.mean_abs[from]);
    EXPECT_EQ(found.square_sum[i], given.square_sum[from]);
    for (size_t j = 0; j < kChannels; ++j) {
      const size_t at = i * kChannels + j;
      const size_t old = from * kChannels + static_cast<size_t>(order[j]);
      EXPECT_EQ(found.gram[at], given.gram[old]);
      EXPECT_EQ(found.mismatch[at], given.mismatch[old]);
    }
    for (size_t token = 0; token < kTokens; ++token) {
      EXPECT_EQ(found.sample[token * kChannels + i], given.sample[token * kChannels + from]);
    }
  }
}

TEST(PermutedStatistics, WhatIsMissingStaysMissing) {
  InputStatistics statistics;
  statistics.in_features = 4;
  statistics.amax = {1, 2, 3, 4};
  const std::vector<int32_t> order = {3, 1, 0, 2};
  const InputStatistics found = permute(statistics, order);
  EXPECT_EQ(found.amax, (std::vector<float>{4, 2, 1, 3}));
  EXPECT_TRUE(found.gram.empty());
  EXPECT_TRUE(found.sample.empty());
  EXPECT_THROW(permute(statistics, std::vector<int32_t>{0, 1}), Error);
}

}  // namespace
}  // namespace pare
