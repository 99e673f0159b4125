#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "pare/error.h"
#include "quant/obs_solver.h"
#include "tests/quant/random_layer.h"

namespace pare {
namespace {

/// (Uᵀ U) · H, which should be the identity.
std::vector<double> times_gram(const InverseFactor& factor, const std::vector<double>& gram) {
  const auto n = static_cast<size_t>(factor.in_features);
  std::vector<double> inverse(n * n);
  for (size_t k = 0; k < n; ++k) {
    for (size_t i = k; i < n; ++i) {
      for (size_t j = k; j < n; ++j) {
        inverse[i * n + j] += static_cast<double>(factor.upper[k * n + i]) *
                              static_cast<double>(factor.upper[k * n + j]);
      }
    }
  }
  std::vector<double> product(n * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t k = 0; k < n; ++k) {
      for (size_t j = 0; j < n; ++j) product[i * n + j] += inverse[i * n + k] * gram[k * n + j];
    }
  }
  return product;
}

TEST(FactorizeInverse, HandComputed) {
  // H⁻¹ of [2 1; 1 2] is [2 −1; −1 2] / 3: U = [√(2/3), −1/√6; 0, 1/√2].
  const InverseFactor factor = factorize_inverse(std::vector<double>{2, 1, 1, 2}, 2, 0, "layer");
  EXPECT_FLOAT_EQ(factor.upper[0], std::sqrt(2.0F / 3.0F));
  EXPECT_FLOAT_EQ(factor.upper[1], -1.0F / std::sqrt(6.0F));
  EXPECT_EQ(factor.upper[2], 0.0F);
  EXPECT_FLOAT_EQ(factor.upper[3], 1.0F / std::sqrt(2.0F));
  EXPECT_EQ(factor.damping, 0.0);
}

TEST(FactorizeInverse, TimesGramIsTheIdentity) {
  constexpr int64_t kColumns = 48;
  const auto x = test::random_activations(3, 400, kColumns, 5);
  std::vector<double> gram = test::statistics_of(x, 400, kColumns).gram;
  const InverseFactor factor = factorize_inverse(gram, kColumns, 0.01, "layer");
  EXPECT_EQ(factor.damping, 0.01);
  double mean = 0;
  for (size_t i = 0; i < kColumns; ++i) mean += gram[i * (kColumns + 1)] / kColumns;
  for (size_t i = 0; i < kColumns; ++i) gram[i * (kColumns + 1)] += 0.01 * mean;
  const std::vector<double> product = times_gram(factor, gram);
  for (size_t i = 0; i < kColumns; ++i) {
    for (size_t j = 0; j < kColumns; ++j) {
      EXPECT_NEAR(product[i * kColumns + j], i == j ? 1.0 : 0.0, 1e-4);
    }
  }
}

TEST(FactorizeInverse, DeadChannelsAreMarkedAndIndependent) {
  const std::vector<double> gram = {4, 0, 2, 0, 0, 0, 2, 0, 4};
  const InverseFactor factor = factorize_inverse(gram, 3, 0, "layer");
  EXPECT_EQ(factor.dead, (std::vector<uint8_t>{0, 1, 0}));
  EXPECT_EQ(factor.upper[4], 1.0F);
  EXPECT_EQ(factor.upper[1], 0.0F);
  EXPECT_EQ(factor.upper[5], 0.0F);
  const InverseFactor none = factorize_inverse(std::vector<double>(9, 0.0), 3, 0.01, "layer");
  EXPECT_EQ(none.dead, std::vector<uint8_t>(3, 1));
}

TEST(FactorizeInverse, SingularGramRaisesTheDamping) {
  // Rank one, without damping: x = (1, 1, 1, 1).
  const InverseFactor factor = factorize_inverse(std::vector<double>(16, 3.0), 4, 0, "layer");
  EXPECT_GT(factor.damping, 0.0);
  EXPECT_LT(factor.damping, 0.2);
  for (const float value : factor.upper) EXPECT_TRUE(std::isfinite(value));
}

TEST(FactorizeInverse, HopelessGramsAreRefusedByName) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const std::vector<double>& gram :
       {std::vector<double>{1, 9, 9, 1}, std::vector<double>{1, kNan, kNan, 1},
        std::vector<double>{kInfinity, 0, 0, 1}}) {
    try {
      // Five raises from 1e-9 do not make the first, indefinite matrix positive.
      factorize_inverse(gram, 2, 1e-9, "model.layers.3.mlp");
      ADD_FAILURE() << "inverted a matrix without an inverse";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNonFinite);
      EXPECT_NE(std::string(error.what()).find("model.layers.3.mlp"), std::string::npos);
    }
  }
  EXPECT_THROW(factorize_inverse(std::vector<double>(5, 1.0), 2, 0.01, "layer"), Error);
}

}  // namespace
}  // namespace pare
