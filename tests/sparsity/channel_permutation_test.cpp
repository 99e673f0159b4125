#include "sparsity/channel_permutation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "pare/error.h"

namespace pare {
namespace {

using Order = std::vector<int32_t>;

Order identity(int64_t units) {
  Order order(static_cast<size_t>(units));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

// Heavy channels beside each other, as trained models have them here and there.
std::vector<float> random_scores(uint32_t seed, int64_t units, int64_t width) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> score(static_cast<size_t>(units * width));
  for (int64_t unit = 0; unit < units; ++unit) {
    const float size = std::exp(normal(random));
    for (int64_t i = 0; i < width; ++i) {
      score[static_cast<size_t>(unit * width + i)] = size * std::abs(normal(random));
    }
  }
  return score;
}

// By sorting each block's scores.
double plain_kept(const std::vector<float>& score, int64_t width, const Order& order) {
  double sum = 0;
  for (size_t block = 0; block < order.size(); block += 4) {
    for (int64_t i = 0; i < width; ++i) {
      std::vector<float> four;
      for (size_t k = block; k < block + 4; ++k) {
        four.push_back(score[static_cast<size_t>(order[k] * width + i)]);
      }
      std::sort(four.rbegin(), four.rend());
      sum += static_cast<double>(four[0]) + static_cast<double>(four[1]);
    }
  }
  return sum;
}

void expect_order(const Order& order, int64_t pool_size) {
  for (size_t first = 0; first < order.size(); first += static_cast<size_t>(pool_size)) {
    Order members(order.begin() + static_cast<ptrdiff_t>(first),
                  order.begin() + static_cast<ptrdiff_t>(first) + pool_size);
    std::sort(members.begin(), members.end());
    for (size_t i = 0; i < members.size(); ++i) {
      ASSERT_EQ(members[i], static_cast<int32_t>(first + i));
    }
  }
}

TEST(ChannelPermutation, TheSumKeptIsThatOfTheTwoLargest) {
  const std::vector<float> score = random_scores(61, 12, 5);
  ThreadPool pool(2);
  Order order = identity(12);
  EXPECT_NEAR(kept_score(score, 5, order, pool), plain_kept(score, 5, order), 1e-5);
  std::reverse(order.begin() + 2, order.end());
  EXPECT_NEAR(kept_score(score, 5, order, pool), plain_kept(score, 5, order), 1e-5);
}

TEST(ChannelPermutation, ChannelsThatCompeteAreTakenApart) {
  // Two blocks of two heavy and two light channels would keep all heavy ones; the order given has
  // all four heavy ones in one block.
  const std::vector<float> score = {9, 8, 7, 6, 1, 1, 1, 1};
  ThreadPool pool(1);
  const Order order = order_for_two_of_four(score, 8, 1, 8, {}, pool);
  expect_order(order, 8);
  EXPECT_EQ(kept_score(score, 1, order, pool), 30);
  EXPECT_EQ(kept_score(score, 1, identity(8), pool), 19);
}

// Of three blocks all partitions can be tried: 12! / (4!³ 3!) = 5775.
TEST(ChannelPermutation, IsNearTheBestOfAll) {
  constexpr int kTrials = 40;
  double found = 0;
  double given = 0;
  double best = 0;
  int optimal = 0;
  ThreadPool pool(2);
  for (int trial = 0; trial < kTrials; ++trial) {
    const auto seed = static_cast<uint32_t>(600 + trial);
    SCOPED_TRACE("seed " + std::to_string(seed));
    const std::vector<float> score = random_scores(seed, 12, 6);
    // Block scores of all quadruples, then the best three that are disjoint and contain 0 first.
    std::vector<double> of_set(1 << 12, -1.0);
    for (int set = 0; set < 1 << 12; ++set) {
      if (__builtin_popcount(static_cast<unsigned>(set)) != 4) continue;
      Order four;
      for (int i = 0; i < 12; ++i) {
        if ((set >> i & 1) != 0) four.push_back(i);
      }
      of_set[static_cast<size_t>(set)] = plain_kept(score, 6, four);
    }
    double optimum = 0;
    for (int a = 1; a < 1 << 12; a += 2) {
      if (of_set[static_cast<size_t>(a)] < 0) continue;
      const int rest = ((1 << 12) - 1) ^ a;
      for (int b = rest; b > 0; b = (b - 1) & rest) {
        if (of_set[static_cast<size_t>(b)] < 0) continue;
        optimum =
            std::max(optimum, of_set[static_cast<size_t>(a)] + of_set[static_cast<size_t>(b)] +
                                  of_set[static_cast<size_t>(rest ^ b)]);
      }
    }
    const Order order = order_for_two_of_four(score, 12, 6, 12, {}, pool);
    expect_order(order, 12);
    const double now = plain_kept(score, 6, order);
    const double before = plain_kept(score, 6, identity(12));
    ASSERT_LE(now, optimum * (1 + 1e-9));
    ASSERT_GE(now, before * (1 - 1e-9));
    optimal += now >= optimum * (1 - 1e-6) ? 1 : 0;
    found += now;
    given += before;
    best += optimum;
  }
  EXPECT_GT(found - given, 0.85 * (best - given));
  EXPECT_GT(optimal, kTrials / 8);
}

TEST(ChannelPermutation, IsNeverWorseThanTheOrderGiven) {
  ThreadPool pool(2);
  // One block alone, scores that are all zero, all equal, some channels dead, one row, many blocks.
  for (const int64_t units : {4, 8, 64, 260}) {
    for (const int64_t width : {0, 1, 3, 33}) {
      for (const char* kind : {"random", "zero", "equal", "dead", "best"}) {
        SCOPED_TRACE(std::string(kind) + " " + std::to_string(units) + " " + std::to_string(width));
        std::vector<float> score = random_scores(62, units, width);
        const std::string which = kind;
        if (which == "zero") std::fill(score.begin(), score.end(), 0.0F);
        if (which == "equal") std::fill(score.begin(), score.end(), 2.5F);
        if (which == "dead") {
          std::fill(score.begin(), score.begin() + static_cast<ptrdiff_t>(score.size() / 2), 0.0F);
        }
        Order start = identity(units);
        if (which == "best") {
          // What was found already cannot be made worse.
          start = order_for_two_of_four(score, units, width, units, {}, pool);
          std::vector<float> moved;
          for (const int32_t unit : start) {
            const auto from = score.begin() + unit * width;
            moved.insert(moved.end(), from, from + width);
          }
          score = std::move(moved);
        }
        const Order order = order_for_two_of_four(score, units, width, units, {}, pool);
        expect_order(order, units);
        const double before = kept_score(score, width, identity(units), pool);
        EXPECT_GE(kept_score(score, width, order, pool), before);
        if (which == "zero" || which == "equal") {
          EXPECT_EQ(order, identity(units));
        }
      }
    }
  }
}

TEST(ChannelPermutation, PoolsStayAmongThemselves) {
  const std::vector<float> score = random_scores(63, 48, 10);
  ThreadPool pool(2);
  const Order together = order_for_two_of_four(score, 48, 10, 16, {}, pool);
  expect_order(together, 16);
  for (int32_t first = 0; first < 48; first += 16) {
    const std::vector<float> own(score.begin() + first * 10, score.begin() + (first + 16) * 10);
    const Order alone =
        order_for_two_of_four(own, 16, 10, 16, {.sweeps = 3, .least_gain = 0}, pool);
    // One by one each stops when it has arrived; together, when all have.
    const Order part(together.begin() + first, together.begin() + first + 16);
    Order moved;
    for (const int32_t unit : part) moved.push_back(unit - first);
    EXPECT_NEAR(kept_score(own, 10, moved, pool), kept_score(own, 10, alone, pool),
                0.01 * kept_score(own, 10, alone, pool));
  }
}

// Solved in parts, the order is still a good one.
TEST(ChannelPermutation, PartsOfManyBlocks) {
  constexpr int64_t kUnits = 400;
  constexpr int64_t kWidth = 20;
  const std::vector<float> score = random_scores(64, kUnits, kWidth);
  ThreadPool pool(2);
  const auto gain = [&](int64_t most_blocks) {
    const Order order =
        order_for_two_of_four(score, kUnits, kWidth, kUnits, {.most_blocks = most_blocks}, pool);
    expect_order(order, kUnits);
    return kept_score(score, kWidth, order, pool) -
           kept_score(score, kWidth, identity(kUnits), pool);
  };
  const double whole = gain(100);
  EXPECT_GT(whole, 0);
  for (const int64_t most : {33, 50}) EXPECT_GT(gain(most), 0.9 * whole) << most;
  EXPECT_GT(gain(7), 0.75 * whole);
  EXPECT_GE(gain(1), 0);
}

TEST(ChannelPermutation, IsTheSameForAnyThreads) {
  const std::vector<float> score = random_scores(65, 256, 37);
  ThreadPool one(1);
  const ChannelOrderOptions options{.most_blocks = 24};
  const Order expected = order_for_two_of_four(score, 256, 37, 128, options, one);
  EXPECT_NE(expected, identity(256));
  for (const size_t threads : {2U, 3U}) {
    ThreadPool pool(threads);
    EXPECT_EQ(order_for_two_of_four(score, 256, 37, 128, options, pool), expected);
    EXPECT_EQ(kept_score(score, 37, expected, pool), kept_score(score, 37, expected, one));
  }
}

TEST(ChannelPermutation, WrongShapesAreRefused) {
  ThreadPool pool(1);
  const std::vector<float> score(24, 1.0F);
  const auto refused = [&](int64_t units, int64_t width, int64_t pool_size) {
    EXPECT_THROW(order_for_two_of_four(score, units, width, pool_size, {}, pool), Error)
        << units << " " << width << " " << pool_size;
  };
  refused(8, 2, 8);
  refused(6, 4, 6);
  refused(8, 3, 6);
  refused(8, 3, 0);
  refused(12, 2, 8);
  refused(0, 3, 4);
  refused(8, -3, 8);
  EXPECT_THROW(order_for_two_of_four(std::vector<float>(8, INFINITY), 8, 1, 8, {}, pool), Error);
}

}  // namespace
}  // namespace pare
