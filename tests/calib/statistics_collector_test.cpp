// What the collector gathers against plain FP64 loops over the same tokens.
#include "calib/statistics_collector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "core/dtype.h"
#include "core/thread_pool.h"

namespace pare {
namespace {

constexpr uint32_t kSeed = 20;
constexpr int kValue = 7;

// Windows of random tokens, [windows, length, width], with channels of different sizes.
struct Tokens {
  int64_t windows = 0;
  int64_t length = 0;
  int64_t width = 0;
  std::vector<float> x;

  Tokens(int64_t windows_, int64_t length_, int64_t width_)
      : windows(windows_), length(length_), width(width_) {
    std::mt19937 random(kSeed);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < windows * length * width; ++i) {
      const float size = i % width % 9 == 4 ? 30.0F : 1.0F;
      x.push_back(round_to_bf16(size * (normal(random) + 0.25F)));
    }
  }

  float at(int64_t token, int64_t channel) const {
    return x[static_cast<size_t>(token * width + channel)];
  }
};

// As a runner does: each window in chunks of `chunk` tokens, windows of a batch on the pool.
InputStatistics collect(const Tokens& tokens, bool gram, int64_t batch, size_t threads,
                        int64_t chunk = 256) {
  ThreadPool pool(threads);
  StatisticsCollector collector({{kValue, tokens.width, gram, tokens.windows * tokens.length}},
                                pool);
  for (int64_t first = 0; first < tokens.windows; first += batch) {
    const int64_t count = std::min(batch, tokens.windows - first);
    collector.begin_batch(count);
    pool.parallel_for(static_cast<size_t>(count), [&](size_t i, size_t) {
      const auto window = static_cast<int64_t>(i);
      const InputObserver observer = collector.observer(window);
      for (int64_t position = 0; position < tokens.length; position += chunk) {
        const int64_t rows = std::min(chunk, tokens.length - position);
        const int64_t token = (first + window) * tokens.length + position;
        observer(kValue, position, rows, tokens.x.data() + token * tokens.width);
        // A value that nobody asked for.
        observer(kValue + 1, position, rows, tokens.x.data() + token * tokens.width);
      }
    });
    collector.end_batch();
  }
  return collector.take(kValue);
}

void expect_equal(const InputStatistics& a, const InputStatistics& b) {
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.amax, b.amax);
  EXPECT_EQ(a.mean_abs, b.mean_abs);
  EXPECT_EQ(a.square_sum, b.square_sum);
  EXPECT_EQ(a.gram, b.gram);
  EXPECT_EQ(a.sample_tokens, b.sample_tokens);
  EXPECT_EQ(a.sample, b.sample);
}

struct Size {
  int64_t windows;
  int64_t length;
  int64_t width;
};

class CollectorTest : public ::testing::TestWithParam<Size> {
 protected:
  CollectorTest() : tokens_(GetParam().windows, GetParam().length, GetParam().width) {}
  Tokens tokens_;
};

TEST_P(CollectorTest, SumsEqualPlainLoops) {
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  const InputStatistics found = collect(tokens_, true, 2, 2);
  const int64_t count = tokens_.windows * tokens_.length;
  const int64_t width = tokens_.width;
  ASSERT_EQ(found.tokens, count);
  ASSERT_EQ(found.in_features, width);
  ASSERT_EQ(found.gram.size(), static_cast<size_t>(width * width));
  std::vector<double> square(static_cast<size_t>(width));
  for (int64_t channel = 0; channel < width; ++channel) {
    float amax = 0;
    double magnitude = 0;
    for (int64_t token = 0; token < count; ++token) {
      const float x = std::abs(tokens_.at(token, channel));
      amax = std::max(amax, x);
      magnitude += static_cast<double>(x);
      square[static_cast<size_t>(channel)] += static_cast<double>(x) * static_cast<double>(x);
    }
    const auto i = static_cast<size_t>(channel);
    EXPECT_EQ(found.amax[i], amax) << channel;
    const double mean = magnitude / static_cast<double>(count);
    EXPECT_NEAR(static_cast<double>(found.mean_abs[i]), mean, 1e-5 * mean) << channel;
    EXPECT_NEAR(found.square_sum[i], square[i], 1e-5 * square[i]) << channel;
  }
  // Products are exact, sums of at most 512 of them are FP32: the bound is of the sum of
  // magnitudes, which the norms bound in turn.
  double worst = 0;
  for (int64_t row = 0; row < width; ++row) {
    for (int64_t column = 0; column < width; ++column) {
      double sum = 0;
      for (int64_t token = 0; token < count; ++token) {
        sum += static_cast<double>(tokens_.at(token, row)) *
               static_cast<double>(tokens_.at(token, column));
      }
      const auto i = static_cast<size_t>(row);
      const auto j = static_cast<size_t>(column);
      const double bound = std::sqrt(square[i] * square[j]);
      const double gram = found.gram[i * static_cast<size_t>(width) + j];
      worst = std::max(worst, std::abs(gram - sum) / bound);
      ASSERT_EQ(gram, found.gram[j * static_cast<size_t>(width) + i]) << row << " " << column;
    }
  }
  EXPECT_LT(worst, 1e-5);
}

TEST_P(CollectorTest, BatchesChunksAndThreadsDoNotChangeABit) {
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  const InputStatistics one = collect(tokens_, true, 1, 1);
  expect_equal(collect(tokens_, true, 1, 3), one);
  expect_equal(collect(tokens_, true, 2, 2), one);
  expect_equal(collect(tokens_, true, tokens_.windows, 2, 100), one);
  expect_equal(collect(tokens_, true, tokens_.windows + 3, 1, 1), one);
}

TEST_P(CollectorTest, WithoutAGramMatrixTheRestIsTheSame) {
  InputStatistics with = collect(tokens_, true, 2, 2);
  EXPECT_FALSE(with.gram.empty());
  with.gram.clear();
  expect_equal(collect(tokens_, false, 2, 2), with);
}

TEST_P(CollectorTest, TheSampleIsEvenlySpreadOverAllTokens) {
  const InputStatistics found = collect(tokens_, false, 2, 2);
  const int64_t count = tokens_.windows * tokens_.length;
  const int64_t limit = StatisticsCollector::kSampleTokens;
  EXPECT_LE(found.sample_tokens, limit);
  EXPECT_GE(found.sample_tokens, std::min(count, limit) / 2);
  const auto width = static_cast<size_t>(tokens_.width);
  ASSERT_EQ(found.sample.size(), static_cast<size_t>(found.sample_tokens) * width);
  std::vector<int64_t> positions;
  int64_t token = 0;
  for (int64_t i = 0; i < found.sample_tokens; ++i) {
    const auto row = found.sample.begin() + i * tokens_.width;
    const auto same = [&](int64_t candidate) {
      for (size_t j = 0; j < width; ++j) {
        if (bf16_to_f32(row[static_cast<int64_t>(j)]) !=
            tokens_.at(candidate, static_cast<int64_t>(j))) {
          return false;
        }
      }
      return true;
    };
    while (token < count && !same(token)) ++token;
    ASSERT_LT(token, count) << "sample " << i << " is no token, or out of order";
    positions.push_back(token++);
  }
  // One of each so many, to the end and not from the beginning alone.
  const int64_t stride = (count + limit - 1) / limit;
  for (size_t i = 0; i < positions.size(); ++i) {
    ASSERT_EQ(positions[i] / stride, static_cast<int64_t>(i));
  }
  EXPECT_GE(positions.back() + 2 * stride, count);
}

// Windows are of equal length, and their first tokens are unlike all others.
TEST(StatisticsCollector, TheSampleHasAllPositionsOfAWindow) {
  constexpr int64_t kWindows = 128;
  constexpr int64_t kLength = 64;
  Tokens tokens(kWindows, kLength, 1);
  for (int64_t i = 0; i < kWindows * kLength; ++i) {
    tokens.x[static_cast<size_t>(i)] = static_cast<float>(i % kLength);
  }
  const InputStatistics found = collect(tokens, false, 8, 2);
  ASSERT_EQ(found.sample_tokens, 512);
  std::vector<int> times(kLength, 0);
  for (const uint16_t value : found.sample) ++times[static_cast<size_t>(bf16_to_f32(value))];
  for (const int count : times) {
    EXPECT_GE(count, 6);
    EXPECT_LE(count, 10);
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, CollectorTest,
                         ::testing::Values(Size{3, 40, 16}, Size{1, 1, 8}, Size{5, 700, 24},
                                           Size{2, 512, 64}, Size{3, 130, 300}, Size{3, 341, 8},
                                           Size{2, 33, 257}, Size{4, 513, 12}),
                         [](const auto& one) {
                           return std::to_string(one.param.windows) + "x" +
                                  std::to_string(one.param.length) + "x" +
                                  std::to_string(one.param.width);
                         });

TEST(Collector, RoundsToBf16BeforeAnythingElse) {
  Tokens tokens(1, 2, 4);
  tokens.x = {1.001F, -3.0F, 0, 0, 1.0F, 2.999F, 0, -1e-3F};
  const InputStatistics found = collect(tokens, true, 1, 1);
  EXPECT_THAT(found.amax, ::testing::ElementsAre(1.0F, 3.0F, 0.0F, round_to_bf16(1e-3F)));
  EXPECT_EQ(found.square_sum[0], 2.0);
  EXPECT_EQ(found.gram[1], -3.0 + 3.0);
  EXPECT_EQ(found.gram[5], 18.0);
}

TEST(Collector, NanAndInfinityReachTheMaximum) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()}) {
    for (const size_t place : {size_t{0}, size_t{401}, size_t{639}}) {
      Tokens tokens(2, 20, 16);
      tokens.x[place] = bad;
      const InputStatistics found = collect(tokens, false, 1, 2);
      int64_t unfit = 0;
      for (const float amax : found.amax) unfit += std::isfinite(amax) ? 0 : 1;
      EXPECT_EQ(unfit, 1) << bad << " at " << place;
      EXPECT_FALSE(std::isfinite(found.amax[place % 16])) << bad << " at " << place;
    }
  }
}

// Σ (x̃ − x) xᵀ, for any batches and threads the same bits.
TEST(Collector, MismatchIsTheSumOfDifferences) {
  constexpr int64_t kWidth = 300;  // more than one tile
  const Tokens tokens(3, 70, kWidth);
  Tokens original = tokens;
  for (size_t i = 0; i < original.x.size(); ++i) {
    original.x[i] = round_to_bf16(original.x[i] * (1 + 0.125F * static_cast<float>(i % 5)));
  }
  const auto run = [&](int64_t batch, size_t threads) {
    ThreadPool pool(threads);
    StatisticsCollector collector({{kValue, kWidth, true, 210, true}}, pool);
    for (int64_t first = 0; first < 3; first += batch) {
      const int64_t count = std::min(batch, 3 - first);
      collector.begin_batch(count);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t at = (first + i) * 70 * kWidth;
        collector.original_observer(i)(kValue, 0, 70, original.x.data() + at);
        collector.observer(i)(kValue, 0, 70, tokens.x.data() + at);
      }
      collector.end_batch();
    }
    return collector.take(kValue);
  };
  const InputStatistics found = run(1, 1);
  EXPECT_EQ(run(3, 2).mismatch, found.mismatch);
  EXPECT_EQ(run(2, 3).mismatch, found.mismatch);
  EXPECT_EQ(found.gram, collect(tokens, true, 1, 1).gram);
  for (int64_t i = 0; i < kWidth; i += 7) {
    for (int64_t j = 0; j < kWidth; j += 11) {
      double sum = 0;
      double magnitude = 0;
      for (int64_t token = 0; token < 210; ++token) {
        const auto x = static_cast<double>(tokens.at(token, j));
        sum += (static_cast<double>(original.at(token, i)) -
                static_cast<double>(tokens.at(token, i))) *
               x;
        magnitude += std::abs(static_cast<double>(original.at(token, i)) * x);
      }
      ASSERT_NEAR(found.mismatch[static_cast<size_t>(i * kWidth + j)], sum, magnitude * 1e-5);
    }
  }
}

TEST(Collector, ValuesAreKeptApart) {
  ThreadPool pool(2);
  StatisticsCollector collector({{1, 4, true, 3}, {5, 8, false, 3}}, pool);
  collector.begin_batch(1);
  const std::vector<float> ones(12, 1.0F);
  const std::vector<float> twos(24, 2.0F);
  collector.observer(0)(5, 0, 3, twos.data());
  collector.observer(0)(1, 0, 3, ones.data());
  collector.end_batch();
  const InputStatistics first = collector.take(1);
  const InputStatistics second = collector.take(5);
  EXPECT_THAT(first.square_sum, ::testing::Each(3.0));
  EXPECT_THAT(first.gram, ::testing::Each(3.0));
  EXPECT_THAT(second.square_sum, ::testing::Each(12.0));
  EXPECT_TRUE(second.gram.empty());
  EXPECT_THAT(second.mean_abs, ::testing::Each(2.0F));
}

}  // namespace
}  // namespace pare
