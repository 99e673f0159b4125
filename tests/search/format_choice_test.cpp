// The Lagrangian choice against all choices that there are.
#include "search/format_choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>

namespace pare {
namespace {

// Σ over groups, smallest loss with at most `budget` bits, by trying everything.
double best_loss(const std::vector<FormatCosts>& groups, int64_t budget) {
  std::vector<size_t> choice(groups.size(), 0);
  double best = std::numeric_limits<double>::infinity();
  while (true) {
    if (total_bits(groups, choice) <= budget) best = std::min(best, total_loss(groups, choice));
    size_t i = 0;
    while (i < choice.size() && ++choice[i] == groups[i].bits.size()) choice[i++] = 0;
    if (i == choice.size()) return best;
  }
}

std::vector<FormatCosts> random_groups(std::mt19937& random, size_t count, size_t formats) {
  std::uniform_real_distribution<double> loss(0, 1);
  std::vector<FormatCosts> groups(count);
  for (FormatCosts& group : groups) {
    for (size_t i = 0; i < formats; ++i) {
      group.bits.push_back(1 + static_cast<int64_t>(random() % 100));
      group.loss.push_back(loss(random) / static_cast<double>(group.bits.back()));
    }
  }
  return groups;
}

TEST(FormatChoice, KeepsTheBudgetAndIsCloseToTheBest) {
  std::mt19937 random(41);
  for (int round = 0; round < 200; ++round) {
    const auto groups = random_groups(random, 6, 3);
    int64_t least = 0;
    int64_t most = 0;
    double widest = 0;
    for (const FormatCosts& group : groups) {
      least += *std::min_element(group.bits.begin(), group.bits.end());
      most += *std::max_element(group.bits.begin(), group.bits.end());
      const auto [low, high] = std::minmax_element(group.loss.begin(), group.loss.end());
      widest = std::max(widest, *high - *low);
    }
    const int64_t budget =
        least + static_cast<int64_t>(random() % static_cast<uint32_t>(most - least + 1));
    const auto choice = choose_formats(groups, budget);
    ASSERT_LE(total_bits(groups, choice), budget) << "round " << round;
    const double best = best_loss(groups, budget);
    ASSERT_GE(total_loss(groups, choice), best - 1e-12);
    // One group is what the convex hull can miss.
    ASSERT_LE(total_loss(groups, choice), best + widest) << "round " << round;
  }
}

TEST(FormatChoice, IsExactWhereTheBudgetIsThatOfAPrice) {
  std::mt19937 random(42);
  for (int round = 0; round < 100; ++round) {
    const auto groups = random_groups(random, 6, 3);
    const double price = std::uniform_real_distribution<double>(0, 0.02)(random);
    int64_t budget = 0;
    for (const FormatCosts& group : groups) {
      size_t best = 0;
      for (size_t i = 1; i < 3; ++i) {
        const auto cost = [&](size_t k) {
          return group.loss[k] + price * static_cast<double>(group.bits[k]);
        };
        if (cost(i) < cost(best)) best = i;
      }
      budget += group.bits[best];
    }
    ASSERT_NEAR(total_loss(groups, choose_formats(groups, budget)), best_loss(groups, budget),
                1e-12)
        << "round " << round;
  }
}

TEST(FormatChoice, EndsOfTheRange) {
  const std::vector<FormatCosts> groups = {{{4, 8, 16}, {3, 1, 0}}, {{4, 8, 16}, {0.5, 0.1, 0}}};
  EXPECT_EQ(choose_formats(groups, 0), (std::vector<size_t>{0, 0})) << "the smallest there is";
  EXPECT_EQ(choose_formats(groups, 8), (std::vector<size_t>{0, 0}));
  EXPECT_EQ(choose_formats(groups, 12), (std::vector<size_t>{1, 0}));
  EXPECT_EQ(choose_formats(groups, 16), (std::vector<size_t>{1, 1}));
  EXPECT_EQ(choose_formats(groups, 1000), (std::vector<size_t>{2, 2}));
  EXPECT_TRUE(choose_formats({}, 10).empty());
}

TEST(FormatChoice, NothingIsPaidForNothing) {
  // The larger format loses no less.
  const std::vector<FormatCosts> groups = {{{4, 8}, {0.1, 0.1}}, {{4, 8}, {0.1, 0.2}}};
  EXPECT_EQ(choose_formats(groups, 100), (std::vector<size_t>{0, 0}));
}

TEST(FormatChoice, MoreBitsNeverLoseMoreAtPrices) {
  std::mt19937 random(43);
  const auto groups = random_groups(random, 40, 4);
  double last = std::numeric_limits<double>::infinity();
  for (int64_t budget = 40; budget < 4000; budget += 60) {
    const auto choice = choose_formats(groups, budget);
    EXPECT_LE(total_loss(groups, choice), last * 1.1 + 1e-9) << budget;
    last = std::min(last, total_loss(groups, choice));
  }
}

}  // namespace
}  // namespace pare
