// Published intervals, values worked by hand, and edges.
#include "eval/intervals.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "pare/error.h"

namespace pare {
namespace {

using Bits = std::vector<uint8_t>;

/// `lost` losses, `gained` gains, then `both` right in both and `neither` right in none.
std::pair<Bits, Bits> answers(size_t lost, size_t gained, size_t both, size_t neither) {
  Bits candidate;
  Bits base;
  const auto add = [&](size_t count, uint8_t c, uint8_t b) {
    candidate.insert(candidate.end(), count, c);
    base.insert(base.end(), count, b);
  };
  add(lost, 0, 1);
  add(gained, 1, 0);
  add(both, 1, 1);
  add(neither, 0, 0);
  return {candidate, base};
}

AccuracyComparison compare(const std::pair<Bits, Bits>& pair) {
  return compare_accuracy(pair.first, pair.second, Clusters::independent(pair.first.size()));
}

void expect_finite(const Measured& figure) {
  EXPECT_TRUE(std::isfinite(figure.value));
  EXPECT_TRUE(std::isfinite(figure.standard_error));
  if (!figure.interval) return;
  EXPECT_TRUE(std::isfinite(figure.interval->lower));
  EXPECT_TRUE(std::isfinite(figure.interval->upper));
  EXPECT_LE(figure.interval->lower, figure.interval->upper);
}

void expect_finite(const AccuracyComparison& c) {
  for (const Measured& figure : {c.base_accuracy, c.accuracy, c.difference, c.relative,
                                 Measured{c.mcnemar_p, c.flips, {}}}) {
    expect_finite(figure);
  }
}

void expect_finite(const PerplexityComparison& c) {
  for (const Measured& figure : {c.base_perplexity, c.perplexity, c.log_ratio, c.ratio,
                                 c.difference, Measured{c.covariance, c.correlation, {}}}) {
    expect_finite(figure);
  }
}

/// Newcombe 1998 (Statistics in Medicine 17:857), table I, method 3.
TEST(Wilson, Published) {
  struct Row {
    size_t right, n;
    double lower, upper;
  };
  for (const Row& row : {Row{81, 263, 0.2553, 0.3662}, Row{15, 148, 0.0624, 0.1605},
                         Row{0, 20, 0.0000, 0.1611}, Row{1, 29, 0.0061, 0.1718}}) {
    const Interval found = wilson_interval(row.right, row.n);
    EXPECT_NEAR(found.lower, row.lower, 5e-5) << row.right;
    EXPECT_NEAR(found.upper, row.upper, 5e-5) << row.right;
    const Interval mirrored = wilson_interval(row.n - row.right, row.n);
    EXPECT_NEAR(mirrored.lower, 1 - found.upper, 1e-15);
  }
}

TEST(Wilson, Edges) {
  EXPECT_EQ(wilson_interval(size_t{0}, size_t{0}).lower, 0);
  EXPECT_EQ(wilson_interval(size_t{0}, size_t{0}).upper, 1);
  EXPECT_EQ(wilson_interval(size_t{0}, size_t{7}).lower, 0);
  EXPECT_EQ(wilson_interval(size_t{7}, size_t{7}).upper, 1);
  EXPECT_THROW(wilson_interval(size_t{1}, size_t{2}, 1.0), Error);
  EXPECT_THROW(wilson_interval(size_t{1}, size_t{2}, std::nan("")), Error);
}

/// Airway hyper-responsiveness of 21 children (Fagerland, Lydersen & Laake 2014, Statistics in
/// Medicine 33:2850): Tango's interval is −0.517 … −0.026.
TEST(PairedScore, Published) {
  const Interval found = paired_score_interval(7, 1, 21);
  EXPECT_NEAR(found.lower, -0.517, 5e-4);
  EXPECT_NEAR(found.upper, -0.026, 5e-4);
  const Interval mirrored = paired_score_interval(1, 7, 21);
  EXPECT_NEAR(mirrored.lower, 0.026, 5e-4);
  EXPECT_NEAR(mirrored.upper, 0.517, 5e-4);
}

TEST(PairedScore, WithoutDiscordantPairsHasItsClosedForm) {
  const double z2 = std::pow(normal_quantile(0.975), 2);
  for (const size_t n : {1, 20, 2000, 13795}) {
    const Interval found = paired_score_interval(0, 0, n);
    EXPECT_NEAR(found.upper, z2 / (static_cast<double>(n) + z2), 1e-12) << n;
    EXPECT_NEAR(found.lower, -found.upper, 1e-12) << n;
  }
}

TEST(PairedScore, Ends) {
  EXPECT_EQ(paired_score_interval(0, 5, 5).upper, 1);
  EXPECT_EQ(paired_score_interval(5, 0, 5).lower, -1);
  EXPECT_EQ(paired_score_interval(0, 0, 0).lower, -1);
  // With many flips it becomes estimate ± z · SE.
  const Interval found = paired_score_interval(5100, 4900, 100000);
  const double half = normal_quantile(0.975) * std::sqrt(0.1 / 100000);
  EXPECT_NEAR(found.lower, -0.002 - half, 2e-6);
  EXPECT_NEAR(found.upper, -0.002 + half, 2e-6);
}

TEST(ClusteredError, WorkedByHand) {
  // Mean 1.5; sums of deviations −1.5 and 1.5; 2.25 / (1 − 3/4) + 2.25 / (1 − 1/4) = 12; / 4².
  const std::vector<double> values = {1, 3, 1, 1};
  const std::vector<uint32_t> groups = {70, 5, 70, 70};
  const Clusters clusters = Clusters::by_group(groups);
  EXPECT_EQ(clusters.count(), 2);
  EXPECT_EQ(clusters.weights(), (std::vector<double>{3, 1}));
  const Estimate found = clustered_estimate(values, clusters);
  EXPECT_DOUBLE_EQ(found.mean, 1.5);
  EXPECT_DOUBLE_EQ(found.standard_error, std::sqrt(0.75));
}

TEST(ClusteredError, EqualsTheTextbookWhereClustersAreEqual) {
  const std::vector<double> values = {1, 2, 4, 8, 16, 32};
  // s / √n with the divisor n − 1.
  const auto textbook = [](const std::vector<double>& x) {
    double mean = 0;
    for (const double value : x) mean += value / static_cast<double>(x.size());
    double squares = 0;
    for (const double value : x) squares += (value - mean) * (value - mean);
    const auto n = static_cast<double>(x.size());
    return std::sqrt(squares / (n - 1) / n);
  };
  const std::vector<uint32_t> distinct = {9, 8, 7, 6, 5, 4};
  for (const Clusters& each : {Clusters::by_group(distinct), Clusters::independent(6)}) {
    EXPECT_NEAR(clustered_estimate(values, each).standard_error, textbook(values), 1e-14);
  }
  const Estimate pairs = clustered_estimate(values, Clusters::runs(6, 2));
  EXPECT_NEAR(pairs.standard_error, textbook({1.5, 6, 24}), 1e-14);
  EXPECT_GT(pairs.standard_error, textbook(values));
}

TEST(ClusteredError, CorrelatedValuesCountOnce) {
  // Two clusters of equal values hold two observations, not four.
  const std::vector<double> values = {1, 1, 3, 3};
  const Estimate clustered = clustered_estimate(values, Clusters::runs(4, 2));
  EXPECT_DOUBLE_EQ(clustered.mean, 2);
  EXPECT_DOUBLE_EQ(clustered.standard_error, 1);
  EXPECT_EQ(clustered_estimate(std::vector<double>{7}, Clusters::independent(1)).standard_error, 0);
}

TEST(ClusteredError, OneClusterIsTakenAsIndependentItems) {
  const std::vector<uint32_t> same = {3, 3, 3};
  const Clusters one = Clusters::by_group(same);
  EXPECT_FALSE(one.clustered());
  EXPECT_EQ(one.count(), 3);
  EXPECT_FALSE(Clusters::runs(5, 8).clustered());
  EXPECT_EQ(Clusters::runs(5, 2).weights(), (std::vector<double>{2, 2, 1}));
}

TEST(Accuracy, FollowsTheFormulasForIndependentQuestions) {
  const AccuracyComparison found = compare(answers(30, 10, 1500, 460));
  EXPECT_EQ(found.n, 2000);
  EXPECT_EQ(found.lost, 30);
  EXPECT_EQ(found.gained, 10);
  EXPECT_EQ(found.base_right, 1530);
  EXPECT_EQ(found.right, 1510);
  EXPECT_DOUBLE_EQ(found.flips, 0.02);
  EXPECT_DOUBLE_EQ(found.difference.value, -0.01);
  EXPECT_NEAR(found.difference.standard_error, std::sqrt((0.02 - 1e-4) / 1999), 1e-12);
  EXPECT_DOUBLE_EQ(found.mcnemar_p, mcnemar_exact_p(30, 10));
  const Interval score = paired_score_interval(30, 10, 2000);
  EXPECT_EQ(found.difference.interval->lower, score.lower);
  EXPECT_EQ(found.difference.interval->upper, score.upper);
  EXPECT_NEAR(found.relative.value, -20.0 / 1530, 1e-15);
  EXPECT_EQ(found.accuracy.interval->upper, wilson_interval(size_t{1510}, size_t{2000}).upper);
}

/// The ratio of proportions has a known variance on the log scale for paired data:
/// (b + c) / (right · base_right).
TEST(Accuracy, RelativeErrorAgreesWithTheLogRatio) {
  const AccuracyComparison found = compare(answers(300, 100, 15000, 4600));
  const double ratio = 15100.0 / 15300;
  EXPECT_NEAR(found.relative.standard_error, ratio * std::sqrt(400.0 / 15100 / 15300), 1e-6);
}

TEST(Accuracy, SwappingModelsChangesTheSign) {
  const auto [candidate, base] = answers(30, 10, 1500, 460);
  const Clusters clusters = Clusters::runs(2000, 100);
  const AccuracyComparison there = compare_accuracy(candidate, base, clusters);
  const AccuracyComparison back = compare_accuracy(base, candidate, clusters);
  EXPECT_EQ(there.lost, back.gained);
  EXPECT_DOUBLE_EQ(there.difference.value, -back.difference.value);
  EXPECT_NEAR(there.difference.interval->lower, -back.difference.interval->upper, 1e-15);
}

TEST(Accuracy, ClustersWidenWhatIsConcentrated) {
  const auto pair = answers(40, 0, 1500, 460);  // All losses in the first cluster.
  const Clusters clusters = Clusters::runs(2000, 100);
  const AccuracyComparison clustered = compare_accuracy(pair.first, pair.second, clusters);
  EXPECT_TRUE(clustered.clustered);
  EXPECT_EQ(clustered.clusters, 20);
  // 20 cluster means: 0.4 once and 0 otherwise, with 19 degrees of freedom.
  EXPECT_NEAR(clustered.difference.standard_error, 0.4 / 20, 1e-12);
  EXPECT_NEAR(clustered.difference.interval->lower, -0.02 - 2.093024 * 0.02, 1e-8);
  EXPECT_LT(compare(pair).difference.interval->upper, 0);
  EXPECT_GT(clustered.difference.interval->upper, 0);
}

TEST(Accuracy, NoFlipsDoNotProveEquality) {
  const auto pair = answers(0, 0, 300, 100);
  for (const Clusters& clusters : {Clusters::independent(400), Clusters::runs(400, 20)}) {
    const AccuracyComparison found = compare_accuracy(pair.first, pair.second, clusters);
    EXPECT_EQ(found.difference.value, 0);
    EXPECT_EQ(found.relative.value, 0);
    EXPECT_EQ(found.mcnemar_p, 1);
    EXPECT_NEAR(found.difference.interval->upper, 0.00951, 1e-5);
    EXPECT_NEAR(found.relative.interval->upper, 0.00951 / 0.75, 2e-5);
    EXPECT_EQ(found.difference.standard_error, 0);
  }
}

TEST(Accuracy, EdgesHaveNoNan) {
  const AccuracyComparison none = compare(answers(0, 0, 0, 0));
  expect_finite(none);
  EXPECT_FALSE(none.difference.interval);
  for (const auto& pair : {answers(1, 0, 0, 0), answers(0, 1, 0, 0), answers(0, 0, 1, 0),
                           answers(0, 0, 0, 1), answers(5, 0, 0, 0), answers(0, 5, 0, 0),
                           answers(0, 0, 5, 0), answers(0, 0, 0, 5), answers(1, 1, 0, 0)}) {
    const AccuracyComparison found = compare(pair);
    expect_finite(found);
    ASSERT_TRUE(found.difference.interval);
    EXPECT_TRUE(found.difference.interval->contains(found.difference.value));
    EXPECT_LT(found.difference.interval->lower, found.difference.interval->upper);
    const auto runs = Clusters::runs(pair.first.size(), 2);
    expect_finite(compare_accuracy(pair.first, pair.second, runs));
  }
  // Relative to a baseline that is never right nothing can be said.
  EXPECT_FALSE(compare(answers(0, 5, 0, 20)).relative.interval);
}

TEST(Accuracy, RefusesWhatDoesNotMatch) {
  const Bits two = {1, 0};
  const Bits three = {1, 0, 1};
  EXPECT_THROW(compare_accuracy(two, three, Clusters::independent(3)), Error);
  EXPECT_THROW(compare_accuracy(three, three, Clusters::independent(2)), Error);
  EXPECT_THROW(compare_accuracy(two, two, Clusters::independent(2), 0), Error);
}

TEST(Means, PairsCancelWhatTheyShare) {
  const std::vector<double> base = {1, 100, 7, 50};
  const std::vector<double> values = {1.25, 100.75, 7.25, 50.75};
  const MeanComparison found = compare_means(values, base, Clusters::independent(4));
  EXPECT_DOUBLE_EQ(found.difference.value, 0.5);
  EXPECT_NEAR(found.difference.standard_error, 0.25 / std::sqrt(3.0), 1e-13);
  EXPECT_NEAR(found.difference.interval->upper, 0.5 + 3.182446 * 0.25 / std::sqrt(3.0), 1e-6);
  EXPECT_GT(found.mean.standard_error, 10);
  const std::vector<double> broken = {1, std::nan(""), 1, 1};
  EXPECT_THROW(compare_means(broken, base, Clusters::independent(4)), Error);
  const std::vector<double> no_values;
  const MeanComparison none = compare_means(no_values, no_values, Clusters::independent(0));
  expect_finite(none.difference);
  EXPECT_FALSE(none.difference.interval);
}

TEST(Perplexity, WorkedByHand) {
  const std::vector<double> base = {1, 2, 3};
  const std::vector<double> candidate = {1.1, 2.2, 3.3};
  const PerplexityComparison found = compare_perplexity(candidate, base);
  EXPECT_NEAR(found.base_perplexity.value, std::exp(2.0), 1e-12);
  EXPECT_NEAR(found.log_ratio.value, 0.2, 1e-12);
  EXPECT_NEAR(found.log_ratio.standard_error, 0.1 / std::sqrt(3.0), 1e-12);
  EXPECT_NEAR(found.ratio.value, std::exp(0.2), 1e-12);
  const double half = 4.302652730 * 0.1 / std::sqrt(3.0);
  EXPECT_NEAR(found.ratio.interval->lower, std::exp(0.2 - half), 1e-9);
  EXPECT_NEAR(found.ratio.interval->upper, std::exp(0.2 + half), 1e-9);
  EXPECT_NEAR(found.covariance, 1.1 / 3, 1e-12);
  EXPECT_NEAR(found.correlation, 1, 1e-12);
  // e^2.2 · 1.1 − e^2 · 1 a window of spread 1.
  const double spread = std::exp(2.2) * 1.1 - std::exp(2.0);
  EXPECT_NEAR(found.difference.standard_error, spread / std::sqrt(3.0), 1e-12);
}

TEST(Perplexity, TokensWeighWindows) {
  const std::vector<double> base = {1, 4, 9};
  const std::vector<double> candidate = {2, 4, 9};
  const std::vector<double> tokens = {3, 1, 0};
  const PerplexityComparison found = compare_perplexity(candidate, base, tokens);
  EXPECT_EQ(found.windows, 2);
  EXPECT_NEAR(std::log(found.base_perplexity.value), 1.75, 1e-14);
  EXPECT_NEAR(found.log_ratio.value, 0.75, 1e-14);
}

TEST(Perplexity, EqualLossesGiveExactlyOne) {
  const std::vector<double> losses = {1.7, 2.9, 0.3, 2.2};
  const PerplexityComparison found = compare_perplexity(losses, losses);
  EXPECT_EQ(found.ratio.value, 1);
  EXPECT_EQ(found.ratio.interval->lower, 1);
  EXPECT_EQ(found.ratio.interval->upper, 1);
  EXPECT_EQ(found.difference.value, 0);
  EXPECT_EQ(found.difference.standard_error, 0);
  EXPECT_NEAR(found.correlation, 1, 1e-12);
  expect_finite(found);
}

TEST(Perplexity, EdgesHaveNoNan) {
  const std::vector<double> none;
  expect_finite(compare_perplexity(none, none));
  EXPECT_EQ(compare_perplexity(none, none).ratio.value, 1);
  const std::vector<double> one = {2.0};
  const std::vector<double> other = {2.5};
  expect_finite(compare_perplexity(one, other));
  EXPECT_FALSE(compare_perplexity(one, other).ratio.interval);
  EXPECT_NEAR(compare_perplexity(one, other).ratio.value, std::exp(-0.5), 1e-14);
  const std::vector<double> equal = {2, 2, 2};
  const std::vector<double> shifted = {3, 3, 3};
  expect_finite(compare_perplexity(equal, shifted));
  EXPECT_EQ(compare_perplexity(equal, shifted).correlation, 0);
  const std::vector<double> huge = {2000, 5000, 1e6};
  expect_finite(compare_perplexity(huge, equal));
  const std::vector<double> infinite = {std::numeric_limits<double>::infinity(), 2, 2};
  EXPECT_THROW(compare_perplexity(infinite, equal), Error);
  EXPECT_THROW(compare_perplexity(one, equal), Error);
}

}  // namespace
}  // namespace pare
