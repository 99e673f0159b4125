// Known answers, worked by hand or with NumPy.
#include "eval/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace pare {
namespace {

TEST(Statistics, MeanAndStandardError) {
  const std::vector<double> values = {1, 2, 3, 4};
  const Estimate found = mean_of(values);
  EXPECT_DOUBLE_EQ(found.mean, 2.5);
  EXPECT_DOUBLE_EQ(found.standard_error, std::sqrt(5.0 / 3.0 / 4.0));
}

TEST(Statistics, OneValueHasNoError) {
  const Estimate found = mean_of(std::vector<double>{7});
  EXPECT_DOUBLE_EQ(found.mean, 7);
  EXPECT_DOUBLE_EQ(found.standard_error, 0);
}

TEST(Statistics, ClusterMeans) {
  const std::vector<float> values = {1, 2, 3, 10, 20, 30};
  EXPECT_EQ(cluster_means(values, 3), (std::vector<double>{2, 20}));
  EXPECT_EQ(cluster_means(values, 6), (std::vector<double>{11}));
}

TEST(Statistics, CorrelatedValuesCountOnce) {
  // Two clusters of equal values hold two observations, not four.
  const std::vector<float> values = {1, 1, 3, 3};
  const Estimate clustered = clustered_mean(values, 2);
  EXPECT_DOUBLE_EQ(clustered.mean, 2);
  EXPECT_DOUBLE_EQ(clustered.standard_error, 1);
  EXPECT_LT(clustered_mean(values, 1).standard_error, 0.6);
}

TEST(Statistics, OneClusterFallsBackToItsValues) {
  const std::vector<float> values = {1, 2, 3, 4};
  EXPECT_DOUBLE_EQ(clustered_mean(values, 4).standard_error, std::sqrt(5.0 / 3.0 / 4.0));
  const std::vector<float> base = {0, 0, 0, 0};
  EXPECT_DOUBLE_EQ(paired_difference(values, base, 4).standard_error, std::sqrt(5.0 / 3.0 / 4.0));
}

TEST(Statistics, PairsCancelWhatTheyShare) {
  // The values vary widely, the difference does not.
  const std::vector<float> base = {1, 100, 7, 50};
  const std::vector<float> values = {1.5, 100.5, 7.5, 50.5};
  const Estimate found = paired_difference(values, base, 2);
  EXPECT_DOUBLE_EQ(found.mean, 0.5);
  EXPECT_DOUBLE_EQ(found.standard_error, 0);
}

TEST(Statistics, PairedDifferenceOfClusters) {
  const std::vector<float> base = {0, 0, 0, 0};
  const std::vector<float> values = {1, 1, 2, 4};
  const Estimate found = paired_difference(values, base, 2);
  EXPECT_DOUBLE_EQ(found.mean, 2);
  EXPECT_DOUBLE_EQ(found.standard_error, 1);
}

TEST(Statistics, ErrorShrinksWithTheRootOfTheSample) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(3.0F, 2.0F);
  std::vector<float> values(40000);
  for (float& value : values) value = normal(random);
  const Estimate found = clustered_mean(values, 4);
  EXPECT_NEAR(found.standard_error, 2.0 / 200.0, 0.0005);
  EXPECT_NEAR(found.mean, 3.0, 6 * 0.01);
}

TEST(Statistics, QuantilesInterpolateLinearly) {
  const std::vector<float> values = {0, 1, 2, 10};
  EXPECT_DOUBLE_EQ(quantile(values, 0), 0);
  EXPECT_DOUBLE_EQ(quantile(values, 0.5), 1.5);
  EXPECT_DOUBLE_EQ(quantile(values, 0.9), 7.6);
  EXPECT_DOUBLE_EQ(quantile(values, 1), 10);
  EXPECT_DOUBLE_EQ(quantile(std::vector<float>{4}, 0.99), 4);
}

}  // namespace
}  // namespace pare
