// Values worked by hand, and edges. Coverage is in coverage_test.cpp.
#include "eval/distribution.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "eval/statistics.h"
#include "pare/error.h"

namespace pare {
namespace {

void expect_finite(const Measured& figure) {
  EXPECT_TRUE(std::isfinite(figure.value));
  EXPECT_TRUE(std::isfinite(figure.standard_error));
  if (!figure.interval) return;
  EXPECT_TRUE(std::isfinite(figure.interval->lower));
  EXPECT_LE(figure.interval->lower, figure.value);
  EXPECT_LE(figure.value, figure.interval->upper);
}

void expect_finite(const DistributionSummary& summary) {
  expect_finite(summary.mean);
  expect_finite(summary.rms);
  for (const QuantileSummary& entry : summary.quantiles) expect_finite(entry.measured);
}

std::vector<float> ramp(size_t n) {
  std::vector<float> values(n);
  std::iota(values.begin(), values.end(), 1.0F);
  return values;
}

TEST(Distribution, MeanAndRootMeanSquare) {
  const std::vector<float> values = {-1, 2, 3, -4};
  const DistributionSummary found = summarize(values, Clusters::independent(4));
  EXPECT_DOUBLE_EQ(found.mean.value, 0);
  EXPECT_NEAR(found.mean.standard_error, std::sqrt(30.0 / 3 / 4), 1e-14);
  EXPECT_DOUBLE_EQ(found.rms.value, std::sqrt(7.5));
  // Squares 1, 4, 9, 16 have the deviation √(129 / 3).
  EXPECT_NEAR(found.rms.standard_error, std::sqrt(129.0 / 3 / 4) / (2 * std::sqrt(7.5)), 1e-14);
  EXPECT_EQ(found.rms.interval->lower, 0);
  EXPECT_EQ(found.minimum, -4);
  EXPECT_EQ(found.maximum, 3);
}

/// P(B(100, ½) ≤ 39) = P(B ≥ 61) = 0.0176 and P(B ≤ 40) = 0.0284: the exact interval of the median
/// of 100 values goes from the 40th to the 61st.
TEST(Distribution, MedianOfIndependentValuesIsBetweenTheKnownRanks) {
  const DistributionSummary found = summarize(ramp(100), Clusters::independent(100));
  const Measured& median = found.quantiles[0].measured;
  EXPECT_DOUBLE_EQ(median.value, 50.5);
  ASSERT_TRUE(median.interval);
  EXPECT_NEAR(median.interval->lower, 40, 0);
  EXPECT_NEAR(median.interval->upper, 61, 0);
  EXPECT_NEAR(median.standard_error, 21 / (2 * 1.984217), 1e-5);
}

TEST(Distribution, QuantilesInTheOrderAskedFor) {
  const std::vector<double> probabilities = {0.99, 0.0, 1.0, 0.5};
  const DistributionSummary found = summarize(ramp(101), Clusters::independent(101), probabilities);
  ASSERT_EQ(found.quantiles.size(), 4);
  EXPECT_DOUBLE_EQ(found.quantiles[0].measured.value, 100);
  EXPECT_DOUBLE_EQ(found.quantiles[1].measured.value, 1);
  EXPECT_DOUBLE_EQ(found.quantiles[2].measured.value, 101);
  EXPECT_EQ(found.quantiles[0].p, 0.99);
  EXPECT_FALSE(found.quantiles[1].measured.interval);
  EXPECT_FALSE(found.quantiles[2].measured.interval);
}

TEST(Distribution, NoIntervalBeyondTheData) {
  // ln(0.025) / ln(0.999) = 3,687 values reach beyond the 99.9 % quantile in 97.5 % of samples.
  const auto interval = [](size_t n) {
    return summarize(ramp(n), Clusters::independent(n)).quantiles[4].measured.interval;
  };
  EXPECT_FALSE(interval(3600));
  EXPECT_TRUE(interval(3700));
}

TEST(Distribution, CorrelatedValuesWidenQuantiles) {
  // Fifty clusters of twenty equal values are fifty observations.
  std::vector<float> values(1000);
  for (size_t i = 0; i < 1000; ++i) values[i] = static_cast<float>((i / 20 * 7) % 50);
  const auto width = [&](const Clusters& clusters) {
    const Interval found = *summarize(values, clusters).quantiles[0].measured.interval;
    return found.upper - found.lower;
  };
  EXPECT_NEAR(width(Clusters::runs(1000, 20)) / width(Clusters::independent(1000)), std::sqrt(20.0),
              1.2);
}

TEST(Distribution, EdgesHaveNoNan) {
  const std::vector<float> none;
  const DistributionSummary empty = summarize(none, Clusters::independent(0));
  expect_finite(empty);
  EXPECT_EQ(empty.quantiles.size(), 5);
  EXPECT_FALSE(empty.mean.interval);

  const std::vector<float> one = {3};
  const DistributionSummary single = summarize(one, Clusters::independent(1));
  expect_finite(single);
  EXPECT_EQ(single.mean.value, 3);
  EXPECT_EQ(single.quantiles[4].measured.value, 3);
  EXPECT_FALSE(single.mean.interval);

  for (const float value : {0.0F, 0.1F, -7.3F, 3e38F}) {
    const std::vector<float> equal(5000, value);
    for (const size_t length : {1, 100, 999, 5000}) {
      const DistributionSummary found = summarize(equal, Clusters::runs(5000, length));
      const auto expected = static_cast<double>(value);
      EXPECT_NEAR(found.mean.value, expected, 1e-12 * std::abs(expected));
      EXPECT_NEAR(found.mean.standard_error, 0, 1e-12 * std::abs(expected));
      EXPECT_NEAR(found.rms.value, std::abs(expected), 1e-12 * std::abs(expected));
      EXPECT_EQ(found.quantiles[3].measured.value, expected);
      EXPECT_EQ(found.quantiles[3].measured.interval->upper, expected);
      for (const QuantileSummary& entry : found.quantiles) expect_finite(entry.measured);
    }
  }
}

TEST(Distribution, ZeroIsExactlyZero) {
  const std::vector<float> zeros(640, 0.0F);
  const DistributionSummary found = summarize(zeros, Clusters::runs(640, 64));
  EXPECT_EQ(found.mean.value, 0);
  EXPECT_EQ(found.mean.standard_error, 0);
  EXPECT_EQ(found.rms.value, 0);
  EXPECT_EQ(found.rms.standard_error, 0);
  EXPECT_EQ(found.maximum, 0);
  expect_finite(found);
}

TEST(Distribution, NamesTheValueThatIsNotFinite) {
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    const std::vector<float> values = {1, 2, bad};
    try {
      summarize(values, Clusters::independent(3));
      FAIL() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNonFinite);
      EXPECT_NE(std::string(error.what()).find("value 2 of 3"), std::string::npos);
    }
  }
  const std::vector<float> two = {1, 2};
  EXPECT_THROW(summarize(two, Clusters::independent(3)), Error);
}

TEST(Quantile, InterpolatesLinearly) {
  const std::vector<float> values = {0, 1, 2, 10};
  EXPECT_DOUBLE_EQ(quantile(values, 0), 0);
  EXPECT_DOUBLE_EQ(quantile(values, 0.5), 1.5);
  EXPECT_DOUBLE_EQ(quantile(values, 0.9), 7.6);
  EXPECT_DOUBLE_EQ(quantile(values, 1), 10);
  EXPECT_DOUBLE_EQ(quantile(std::vector<float>{4}, 0.99), 4);
}

}  // namespace
}  // namespace pare
