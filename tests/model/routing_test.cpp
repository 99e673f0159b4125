// choose_experts() against the rules written out plainly.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "model/expert_rows.h"
#include "pare/error.h"

namespace pare {
namespace {

constexpr uint32_t kSeed = 20240611;

ExpertsSpec rule(Routing routing, int64_t count, int64_t chosen, bool normalize = false) {
  ExpertsSpec spec;
  spec.routing = routing;
  spec.count = count;
  spec.chosen = chosen;
  spec.normalize = normalize;
  return spec;
}

struct Choice {
  std::vector<int32_t> experts;
  std::vector<float> weights;
};

Choice choose(const ExpertsSpec& spec, const std::vector<float>& logits,
              const std::vector<float>& correction = {}) {
  Choice choice{std::vector<int32_t>(static_cast<size_t>(spec.chosen)),
                std::vector<float>(static_cast<size_t>(spec.chosen))};
  choose_experts(spec, logits, correction, choice.experts, choice.weights);
  return choice;
}

std::vector<double> softmax(const std::vector<double>& logits) {
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit);
  std::vector<double> result;
  for (const double logit : logits) result.push_back(std::exp(logit) / sum);
  return result;
}

// Experts in the order of their scores: the first of equal ones comes first.
std::vector<int32_t> ranking(const std::vector<double>& scores) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
  });
  return order;
}

void expect_choice(const Choice& found, const ExpertsSpec& spec,
                   const std::vector<double>& choice_scores, const std::vector<double>& weights) {
  const std::vector<int32_t> order = ranking(choice_scores);
  double sum = 0;
  for (int64_t i = 0; i < spec.chosen; ++i) {
    sum += weights[static_cast<size_t>(order[static_cast<size_t>(i)])];
  }
  for (size_t i = 0; i < static_cast<size_t>(spec.chosen); ++i) {
    ASSERT_EQ(found.experts[i], order[i]) << "choice " << i << ", seed " << kSeed;
    const double weight = weights[static_cast<size_t>(order[i])] / (spec.normalize ? sum : 1) *
                          static_cast<double>(spec.scale);
    EXPECT_NEAR(static_cast<double>(found.weights[i]), weight, 1e-6) << "seed " << kSeed;
  }
}

class Routed : public ::testing::TestWithParam<bool> {
 protected:
  std::vector<float> draw(int64_t count, float deviation) {
    std::normal_distribution<float> normal(0, deviation);
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = normal(random_);
    return values;
  }
  std::mt19937 random_{kSeed};
};
INSTANTIATE_TEST_SUITE_P(Normalized, Routed, ::testing::Bool());

TEST_P(Routed, BySoftmax) {
  for (const int64_t chosen : {1, 3, 7}) {
    ExpertsSpec spec = rule(Routing::kSoftmax, 7, chosen, GetParam());
    spec.scale = 1.5F;
    for (int trial = 0; trial < 50; ++trial) {
      const std::vector<float> logits = draw(spec.count, 2);
      const std::vector<double> scores = softmax({logits.begin(), logits.end()});
      expect_choice(choose(spec, logits), spec, scores, scores);
    }
  }
}

TEST_P(Routed, BySoftmaxOfTheChosen) {
  for (const int64_t chosen : {1, 2, 5}) {
    const ExpertsSpec spec = rule(Routing::kSoftmaxOfChosen, 5, chosen, GetParam());
    for (int trial = 0; trial < 50; ++trial) {
      const std::vector<float> logits = draw(spec.count, 2);
      const std::vector<int32_t> order = ranking({logits.begin(), logits.end()});
      std::vector<double> best;
      for (size_t i = 0; i < static_cast<size_t>(chosen); ++i) {
        best.push_back(static_cast<double>(logits[static_cast<size_t>(order[i])]));
      }
      best = softmax(best);
      const Choice found = choose(spec, logits);
      for (size_t i = 0; i < best.size(); ++i) {
        ASSERT_EQ(found.experts[i], order[i]) << "seed " << kSeed;
        EXPECT_NEAR(static_cast<double>(found.weights[i]), best[i], 1e-6) << "seed " << kSeed;
      }
    }
  }
}

// Groups compete by the sum of their two best, corrections included; weights know no corrections.
TEST_P(Routed, BySigmoidInGroups) {
  for (const int64_t groups : {1, 2, 4, 12}) {
    const int64_t kept = std::max<int64_t>(1, groups / 2);
    ExpertsSpec spec =
        rule(Routing::kSigmoidGroups, 12, std::min<int64_t>(3, 12 / groups * kept), GetParam());
    spec.scale = 2.5F;
    spec.groups = groups;
    spec.chosen_groups = kept;
    for (int trial = 0; trial < 50; ++trial) {
      const std::vector<float> logits = draw(spec.count, 2);
      const std::vector<float> correction = draw(spec.count, 0.3F);
      std::vector<double> weights;
      std::vector<double> scores;
      for (size_t i = 0; i < logits.size(); ++i) {
        weights.push_back(1 / (1 + std::exp(-static_cast<double>(logits[i]))));
        scores.push_back(weights.back() + static_cast<double>(correction[i]));
      }
      const auto size = static_cast<ptrdiff_t>(spec.count / groups);
      std::vector<double> of_group;
      for (int64_t group = 0; group < groups; ++group) {
        std::vector<double> members(scores.begin() + group * size,
                                    scores.begin() + (group + 1) * size);
        std::sort(members.rbegin(), members.rend());
        of_group.push_back(members[0] + (size > 1 ? members[1] : 0));
      }
      const std::vector<int32_t> best = ranking(of_group);
      for (size_t i = static_cast<size_t>(kept); i < best.size(); ++i) {
        std::fill_n(scores.begin() + best[i] * size, size, -1e9);
      }
      expect_choice(choose(spec, logits, correction), spec, scores, weights);
    }
  }
}

TEST(Routing, TheFirstOfEqualScoresWins) {
  const std::vector<float> logits = {1, 3, 2, 3, 3, 2};
  for (const Routing routing :
       {Routing::kSoftmax, Routing::kSoftmaxOfChosen, Routing::kSigmoidGroups}) {
    EXPECT_EQ(choose(rule(routing, 6, 4), logits).experts, (std::vector<int32_t>{1, 3, 4, 2}));
  }
  ExpertsSpec groups = rule(Routing::kSigmoidGroups, 6, 2);
  groups.groups = 3;
  groups.chosen_groups = 1;
  EXPECT_EQ(choose(groups, {2, 1, 2, 1, 2, 1}).experts, (std::vector<int32_t>{0, 1}));
}

TEST(Routing, VanishingSigmoidsDoNotDivideByZero) {
  const ExpertsSpec spec = rule(Routing::kSigmoidGroups, 3, 2, true);
  for (const float weight : choose(spec, {-200, -200, -200}).weights) {
    EXPECT_TRUE(std::isfinite(weight));
  }
}

// The tokens and the router's logits in, the weighted sum out.
BlockGraph routing_block(const ExpertsSpec& spec, int64_t width) {
  BlockGraph block;
  block.widths = {width, spec.count, width};
  block.ops.push_back({.kind = OpKind::kExperts, .name = {}, .inputs = {0, 1}, .output = 2});
  block.experts = spec;
  return block;
}

// Tokens of an expert, in the order of the rows, each with the weight that it has there.
TEST(Routing, RowsOfAnExpert) {
  const ExpertsSpec spec = rule(Routing::kSoftmax, 3, 2);
  const BlockGraph block = routing_block(spec, 2);
  ExpertRows rows(block, 3);
  const std::vector<float> x = {1, 2, 3, 4, 5, 6};
  const std::vector<float> logits = {0, 1, 2, 5, 4, 0, 0, 3, 1};
  rows.set(spec, {}, 0, 1, x.data(), logits.data());
  rows.set(spec, {}, 1, 2, x.data() + 2, logits.data() + 3);
  EXPECT_EQ(rows.input, x);
  const auto routed = rows.routed(3);
  EXPECT_EQ(routed[0].rows, (std::vector<int64_t>{1}));
  EXPECT_EQ(routed[1].rows, (std::vector<int64_t>{0, 1, 2}));
  EXPECT_EQ(routed[2].rows, (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(routed[1].weights[1], choose(spec, {5, 4, 0}).weights[1]);
}

// NaN has no order: it must not decide who is chosen, nor how the sort ends.
TEST(Routing, LogitsThatAreNotNumbersAreRefused) {
  const ExpertsSpec spec = rule(Routing::kSoftmax, 3, 2);
  const BlockGraph block = routing_block(spec, 1);
  ExpertRows rows(block, 2);
  const std::vector<float> x = {1, 2};
  for (size_t bad = 0; bad < 6; ++bad) {
    std::vector<float> logits = {0, 1, 2, 5, 4, 0};
    logits[bad] = bad % 2 == 0 ? std::numeric_limits<float>::quiet_NaN()
                               : std::numeric_limits<float>::infinity();
    try {
      rows.set(spec, {}, 0, 2, x.data(), logits.data());
      ADD_FAILURE() << "logit " << bad << " was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNonFinite);
    }
  }
}

}  // namespace
}  // namespace pare
