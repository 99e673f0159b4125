// The statistics of acceptance on sequences whose answer is known.
#include "eval/acceptance.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "eval/clusters.h"

namespace pare {
namespace {

constexpr unsigned kSeed = 60221;
constexpr size_t kLongest = 10;

std::vector<float> random_acceptance(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(0, 1);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(random);
  return values;
}

TEST(AcceptanceCurve, OfAHandMadeSequence) {
  // Two windows of four; drafts of up to 2 start at 0, 1 and 2.
  const std::vector<float> alpha = {0.5F, 1, 0, 0.25F, 1, 1, 1, 0.5F};
  const AcceptanceCurve curve = acceptance_curve(alpha, 4, 2);
  EXPECT_DOUBLE_EQ(curve.rate.value, 5.25 / 8);
  ASSERT_EQ(curve.accepted.size(), 2U);
  // γ = 1: (0.5 + 1 + 0) / 3 and 1. γ = 2 adds (0.5·1 + 1·0 + 0·0.25) / 3 and (1 + 1 + 0.5) / 3.
  EXPECT_DOUBLE_EQ(curve.accepted[0].value, (0.5 + 1) / 2);
  EXPECT_DOUBLE_EQ(curve.accepted[1].value, (2.0 / 3 + 5.5 / 3) / 2);
  // Between two windows the error is half of their distance, and t with one degree of freedom is
  // 12.7: the interval is cut at 0 and γ.
  EXPECT_NEAR(curve.accepted[0].standard_error, 0.25, 1e-12);
  ASSERT_TRUE(curve.accepted[1].interval.has_value());
  EXPECT_EQ(curve.accepted[1].interval->lower, 0);
  EXPECT_EQ(curve.accepted[1].interval->upper, 2);
  EXPECT_EQ(curve.rate.interval->upper, 1);
}

TEST(AcceptanceCurve, ErrorsAreThoseBetweenWindows) {
  constexpr size_t kWindow = 30;
  const std::vector<float> alpha = random_acceptance(kWindow * 25, kSeed);
  const AcceptanceCurve curve = acceptance_curve(alpha, kWindow, kLongest);
  const std::vector<double> values(alpha.begin(), alpha.end());
  const Estimate expected = clustered_estimate(values, Clusters::runs(values.size(), kWindow));
  EXPECT_NEAR(curve.rate.value, expected.mean, 1e-12);
  EXPECT_NEAR(curve.rate.standard_error, expected.standard_error, 1e-12);
  // Student's t with 24 degrees of freedom.
  EXPECT_NEAR(curve.rate.interval->upper - curve.rate.value, 2.0639 * expected.standard_error,
              1e-4 * expected.standard_error);
}

TEST(AcceptanceCurve, AgreesWithItsDefinition) {
  constexpr size_t kWindow = 17;
  constexpr size_t kWindows = 5;
  const std::vector<float> alpha = random_acceptance(kWindow * kWindows, kSeed + 1);
  const AcceptanceCurve curve = acceptance_curve(alpha, kWindow, kLongest);
  for (size_t gamma = 1; gamma <= kLongest; ++gamma) {
    double sum = 0;
    size_t starts = 0;
    for (size_t w = 0; w < kWindows; ++w) {
      for (size_t i = 0; i + kLongest <= kWindow; ++i, ++starts) {
        for (size_t k = 1; k <= gamma; ++k) {
          double product = 1;
          for (size_t j = 0; j < k; ++j) product *= static_cast<double>(alpha[w * kWindow + i + j]);
          sum += product;
        }
      }
    }
    EXPECT_EQ(starts, kWindows * draft_starts(kWindow, kLongest));
    EXPECT_NEAR(curve.accepted[gamma - 1].value, sum / static_cast<double>(starts), 1e-12)
        << "draft length " << gamma << ", seed " << kSeed + 1;
  }
}

TEST(AcceptanceCurve, IsMonotoneConcaveAndAtMostTheDraftLength) {
  for (unsigned seed = kSeed; seed < kSeed + 50; ++seed) {
    SCOPED_TRACE(seed);
    const AcceptanceCurve curve =
        acceptance_curve(random_acceptance(std::size_t{11} * 4, seed), 11, kLongest);
    double last = 0;
    double last_step = 1;
    for (size_t i = 0; i < kLongest; ++i) {
      const double step = curve.accepted[i].value - last;
      EXPECT_GE(step, 0);
      EXPECT_LE(step, last_step);
      EXPECT_LE(curve.accepted[i].value, static_cast<double>(i + 1));
      last = curve.accepted[i].value;
      last_step = step + 1e-12;
    }
  }
}

TEST(AcceptanceCurve, AllOrNothingIsExact) {
  const AcceptanceCurve all = acceptance_curve(std::vector<float>(60, 1.0F), 20, kLongest);
  const AcceptanceCurve none = acceptance_curve(std::vector<float>(60, 0.0F), 20, kLongest);
  EXPECT_EQ(all.rate.value, 1);
  EXPECT_EQ(none.rate.value, 0);
  for (size_t i = 0; i < kLongest; ++i) {
    EXPECT_EQ(all.accepted[i].value, static_cast<double>(i + 1));
    EXPECT_EQ(all.accepted[i].standard_error, 0);
    EXPECT_EQ(none.accepted[i].value, 0);
    EXPECT_FALSE(all.accepted[i].interval.has_value());  // no spread to estimate one from
  }
}

TEST(AcceptanceCurve, EqualsTheClosedFormWhereAcceptanceIsConstant) {
  const AcceptanceCurve curve = acceptance_curve(std::vector<float>(64, 0.75F), 16, kLongest);
  for (size_t i = 0; i < kLongest; ++i) {
    const auto gamma = static_cast<int64_t>(i) + 1;
    const double closed = (1 - std::pow(0.75, static_cast<double>(gamma + 1))) / 0.25 - 1;
    EXPECT_NEAR(iid_accepted(0.75, gamma), closed, 1e-12);
    EXPECT_NEAR(curve.accepted[i].value, closed, 1e-12);
  }
  EXPECT_EQ(iid_accepted(1, 10), 10);
  EXPECT_EQ(iid_accepted(0, 10), 0);
}

TEST(AcceptanceCurve, RunsOfAgreementGiveMoreThanTheClosedForm) {
  std::vector<float> alpha;
  for (int run = 0; run < 40; ++run) alpha.insert(alpha.end(), 10, run % 2 == 0 ? 1.0F : 0.2F);
  const AcceptanceCurve curve = acceptance_curve(alpha, 100, kLongest);
  EXPECT_GT(curve.accepted[9].value, 1.5 * iid_accepted(curve.rate.value, 10));
}

TEST(AcceptanceCurve, OneWindowHasNoInterval) {
  const AcceptanceCurve curve = acceptance_curve(random_acceptance(20, kSeed), 20, kLongest);
  EXPECT_FALSE(curve.rate.interval.has_value());
  EXPECT_EQ(curve.rate.standard_error, 0);
  EXPECT_FALSE(curve.accepted[9].interval.has_value());
}

TEST(AcceptanceCurve, AWindowThatHoldsOneDraftHasOneStart) {
  const std::vector<float> alpha = {1, 1, 1, 0.5F, 1, 1, 0, 1, 1, 1};
  const AcceptanceCurve curve = acceptance_curve(alpha, 10, kLongest);
  const std::vector<double> expected = {1, 2, 3, 3.5, 4, 4.5, 4.5, 4.5, 4.5, 4.5};
  for (size_t i = 0; i < kLongest; ++i) EXPECT_EQ(curve.accepted[i].value, expected[i]);
}

TEST(ExpectedSpeedup, OfKnownFigures) {
  const Measured accepted{2, 0.1, Interval{1.8, 2.2}};
  const Measured found = expected_speedup(accepted, 4, 0.25);
  EXPECT_DOUBLE_EQ(found.value, 1.5);
  EXPECT_DOUBLE_EQ(found.standard_error, 0.05);
  EXPECT_DOUBLE_EQ(found.interval->lower, 1.4);
  EXPECT_DOUBLE_EQ(found.interval->upper, 1.6);
  EXPECT_FALSE(expected_speedup({2, 0, {}}, 4, 0.25).interval.has_value());
  // A draft that is always right and costs as much as the target gains nothing.
  for (int64_t gamma = 1; gamma <= 10; ++gamma) {
    EXPECT_EQ(expected_speedup({static_cast<double>(gamma), 0, {}}, gamma, 1).value, 1);
  }
}

TEST(BestDraftLength, IsTheLeastOfTheBestOrNone) {
  const auto of = [](std::initializer_list<double> values) {
    std::vector<Measured> speedups;
    for (const double value : values) speedups.push_back({value, 0, {}});
    return best_draft_length(speedups);
  };
  EXPECT_EQ(of({1.1, 1.4, 1.4, 1.2}), 2);
  EXPECT_EQ(of({0.9, 1.01}), 2);
  EXPECT_EQ(of({1, 1, 1}), 0);
  EXPECT_EQ(of({0.9, 0.8}), 0);
  EXPECT_EQ(of({}), 0);
}

}  // namespace
}  // namespace pare
