// Printed tables and closed forms.
#include "eval/probability.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>

namespace pare {
namespace {

TEST(Probability, LogGammaAtFactorialsAndHalves) {
  EXPECT_NEAR(log_gamma(0.5), 0.5 * std::log(std::numbers::pi), 1e-14);
  EXPECT_NEAR(log_gamma(1), 0, 1e-14);
  EXPECT_NEAR(log_gamma(2), 0, 1e-14);
  EXPECT_NEAR(log_gamma(11), std::log(3628800.0), 1e-13);
  for (const double x : {0.01, 3.7, 12.0, 99.5, 7000.5, 20001.0}) {
    EXPECT_NEAR(log_gamma(x), std::lgamma(x), 1e-13 * (1 + std::lgamma(x))) << x;
  }
}

TEST(Probability, IncompleteBetaIsABinomialTail) {
  // P(B(100, ½) ≥ 61) = 0.0176001; P(B(3, p) ≥ 3) = p³.
  EXPECT_NEAR(incomplete_beta(0.5, 61, 40), 0.0176001, 5e-8);
  EXPECT_NEAR(incomplete_beta(0.7, 3, 1), 0.343, 1e-14);
  EXPECT_NEAR(incomplete_beta(0.7, 2, 2), 3 * 0.49 - 2 * 0.343, 1e-14);
  EXPECT_EQ(incomplete_beta(0, 2, 3), 0);
  EXPECT_EQ(incomplete_beta(1, 2, 3), 1);
}

TEST(Probability, NormalQuantiles) {
  EXPECT_EQ(normal_quantile(0.5), 0);
  EXPECT_NEAR(normal_quantile(0.9), 1.2815515655446004, 1e-13);
  EXPECT_NEAR(normal_quantile(0.975), 1.9599639845400545, 1e-13);
  EXPECT_NEAR(normal_quantile(0.995), 2.5758293035489004, 1e-13);
  EXPECT_NEAR(normal_quantile(0.025), -1.9599639845400545, 1e-13);
  EXPECT_NEAR(normal_quantile(1e-10), -6.361340902404, 1e-10);
}

TEST(Probability, QuantilesRoundTrip) {
  for (const double p : {1e-300, 1e-20, 1e-6, 0.01, 0.3, 0.499}) {
    const double z = normal_quantile(p);
    EXPECT_NEAR(0.5 * std::erfc(-z / std::numbers::sqrt2) / p, 1, 1e-10) << p;
  }
  for (const double degrees : {0.7, 1.0, 3.0, 25.4, 56.0, 13794.0, 3e6}) {
    for (const double p : {1e-6, 0.005, 0.025, 0.3, 0.49}) {
      const double t = student_t_quantile(p, degrees);
      EXPECT_NEAR(student_t_upper_tail(-t, degrees) / p, 1, 1e-9) << p << " " << degrees;
      // 1 − p is rounded, which moves the far tail by 1e-16 / p.
      EXPECT_NEAR(student_t_quantile(1 - p, degrees) / -t, 1, 1e-8);
    }
  }
}

/// Every printed table of Student's t, such as Fisher & Yates (1963), table III.
TEST(Probability, StudentTable) {
  struct Row {
    double degrees, t95, t975, t995, t9995;
  };
  const Row rows[] = {
      {1, 6.314, 12.706, 63.657, 636.619}, {2, 2.920, 4.303, 9.925, 31.599},
      {3, 2.353, 3.182, 5.841, 12.924},    {5, 2.015, 2.571, 4.032, 6.869},
      {10, 1.812, 2.228, 3.169, 4.587},    {20, 1.725, 2.086, 2.845, 3.850},
      {30, 1.697, 2.042, 2.750, 3.646},    {60, 1.671, 2.000, 2.660, 3.460},
      {120, 1.658, 1.980, 2.617, 3.373},   {1e12, 1.645, 1.960, 2.576, 3.291},
  };
  for (const Row& row : rows) {
    EXPECT_NEAR(student_t_quantile(0.95, row.degrees), row.t95, 6e-4) << row.degrees;
    EXPECT_NEAR(student_t_quantile(0.975, row.degrees), row.t975, 6e-4) << row.degrees;
    EXPECT_NEAR(student_t_quantile(0.995, row.degrees), row.t995, 6e-4) << row.degrees;
    EXPECT_NEAR(student_t_quantile(0.9995, row.degrees), row.t9995, 6e-4) << row.degrees;
  }
}

TEST(Probability, StudentClosedForms) {
  for (const double p : {0.6, 0.9, 0.975, 0.9999}) {
    EXPECT_NEAR(student_t_quantile(p, 1) / std::tan(std::numbers::pi * (p - 0.5)), 1, 1e-11);
    EXPECT_NEAR(student_t_quantile(p, 2) / ((2 * p - 1) / std::sqrt(2 * p * (1 - p))), 1, 1e-11);
  }
}

TEST(Probability, StudentApproachesTheNormalWithoutAStep) {
  for (const double degrees : {1e5, 1e6, 1e7, 0.99e8, 1.01e8}) {
    // Leading term of the expansion in 1 / degrees (Abramowitz & Stegun 26.7.5).
    const double z = normal_quantile(0.975);
    const double expected = z + (z * z * z + z) / (4 * degrees);
    EXPECT_NEAR(student_t_quantile(0.975, degrees), expected, 3e-8) << degrees;
  }
}

TEST(Probability, EndsAreInfinite) {
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(normal_quantile(0), -infinity);
  EXPECT_EQ(normal_quantile(1), infinity);
  EXPECT_EQ(student_t_quantile(0, 3), -infinity);
  EXPECT_EQ(student_t_quantile(1, 3), infinity);
  EXPECT_EQ(student_t_quantile(0.5, 3), 0);
}

/// 1 and 7: airway hyper-responsiveness (Fagerland, Lydersen & Laake 2013, table 1): 0.0703.
TEST(Probability, McNemarPublishedAndByHand) {
  EXPECT_NEAR(mcnemar_exact_p(1, 7), 0.0703125, 1e-15);
  EXPECT_NEAR(mcnemar_exact_p(7, 1), 0.0703125, 1e-15);
  EXPECT_NEAR(mcnemar_exact_p(2, 12), 212.0 / 16384, 1e-14);
  EXPECT_NEAR(mcnemar_exact_p(0, 5), 1.0 / 16, 1e-15);
  EXPECT_EQ(mcnemar_exact_p(0, 0), 1);
  EXPECT_NEAR(mcnemar_exact_p(0, 1), 1, 1e-14);
  EXPECT_EQ(mcnemar_exact_p(9, 9), 1);
  EXPECT_NEAR(mcnemar_exact_p(4, 5), 1, 1e-14);
}

TEST(Probability, McNemarOfManyPairs) {
  // The normal approximation with continuity correction has an error of order 1 / n here.
  const double z = (200 - 1) / std::sqrt(20000.0);
  EXPECT_NEAR(mcnemar_exact_p(9900, 10100), std::erfc(z / std::numbers::sqrt2), 2e-5);
  EXPECT_EQ(mcnemar_exact_p(0, 20000), 0);
  EXPECT_GT(mcnemar_exact_p(9000, 11000), 0);
  EXPECT_LT(mcnemar_exact_p(9000, 11000), 1e-40);
  EXPECT_NEAR(mcnemar_exact_p(10000, 10001), 1, 1e-9);
}

}  // namespace
}  // namespace pare
