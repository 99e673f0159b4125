#include "quant/noise_compensation.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "pare/error.h"

namespace pare {
namespace {

constexpr int64_t kTokens = 10;

std::vector<double> identity_gram(int64_t n) {
  std::vector<double> gram(static_cast<size_t>(n * n), 0.0);
  for (int64_t i = 0; i < n; ++i) gram[static_cast<size_t>(i * (n + 1))] = kTokens;
  return gram;
}

// Mean square output error of reading x + e instead of x: (w' − w) H (w' − w)ᵀ + n |w'|².
double noisy_error(const std::vector<float>& weight, const std::vector<float>& changed,
                   const std::vector<double>& gram, int64_t in, const std::vector<double>& noise) {
  double error = 0;
  for (size_t row = 0; row < weight.size(); row += static_cast<size_t>(in)) {
    for (size_t i = 0; i < static_cast<size_t>(in); ++i) {
      const double di =
          static_cast<double>(changed[row + i]) - static_cast<double>(weight[row + i]);
      error +=
          noise[i] * static_cast<double>(changed[row + i]) * static_cast<double>(changed[row + i]);
      for (size_t j = 0; j < static_cast<size_t>(in); ++j) {
        const double dj =
            static_cast<double>(changed[row + j]) - static_cast<double>(weight[row + j]);
        error += di * gram[i * static_cast<size_t>(in) + j] / kTokens * dj;
      }
    }
  }
  return error;
}

TEST(NoiseCompensation, UncorrelatedChannelsShrinkByTheWienerFactor) {
  ThreadPool pool(2);
  const std::vector<float> weight = {1, -2, 3, 4, 5, -6};
  const std::vector<float> changed = compensate_input_noise(
      weight, 2, make_noise_filter(identity_gram(3), kTokens, std::vector<double>(3, 0.25), "w"),
      pool);
  for (size_t i = 0; i < weight.size(); ++i) EXPECT_NEAR(changed[i], weight[i] / 1.25F, 1e-6F);
}

TEST(NoiseCompensation, IsTheLeastErrorAndIndependentOfThreads) {
  constexpr int64_t kIn = 40;
  constexpr int64_t kOut = 150;
  const unsigned seed = 7;
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<double> gram(kIn * kIn, 0.0);
  for (int64_t token = 0; token < kTokens; ++token) {
    std::vector<float> x(kIn);
    for (float& value : x) value = normal(random);
    for (size_t i = 0; i < kIn; ++i) {
      for (size_t j = 0; j < kIn; ++j) {
        gram[i * kIn + j] += static_cast<double>(x[i]) * static_cast<double>(x[j]);
      }
    }
  }
  std::vector<float> weight(kIn * kOut);
  for (float& value : weight) value = normal(random);
  std::vector<double> noise;
  for (int64_t i = 0; i < kIn; ++i) noise.push_back(0.02 + 0.06 * static_cast<double>(i % 3));
  ThreadPool one(1);
  ThreadPool three(3);
  const NoiseFilter filter = make_noise_filter(gram, kTokens, noise, "w");
  const std::vector<float> best = compensate_input_noise(weight, kOut, filter, one);
  EXPECT_EQ(best, compensate_input_noise(weight, kOut, filter, three));
  const double least = noisy_error(weight, best, gram, kIn, noise);
  EXPECT_LT(least, noisy_error(weight, weight, gram, kIn, noise));
  for (const float factor : {0.99F, 1.01F}) {
    std::vector<float> other = best;
    for (float& value : other) value *= factor;
    EXPECT_LT(least, noisy_error(weight, other, gram, kIn, noise));
  }
}

TEST(NoiseCompensation, ChannelsThatAreAlwaysZeroStayAsTheyAre) {
  ThreadPool pool(1);
  std::vector<double> gram = identity_gram(3);
  gram[4] = 0;  // the second channel, which has no noise either
  const std::vector<float> weight = {1, -2, 3};
  const std::vector<float> changed = compensate_input_noise(
      weight, 1, make_noise_filter(gram, kTokens, {0.25, 0.0, 0.25}, "w"), pool);
  EXPECT_FLOAT_EQ(changed[0], 0.8F);
  EXPECT_EQ(changed[1], -2.0F);
  EXPECT_FLOAT_EQ(changed[2], 2.4F);
}

// Two channels that are always equal and not rounded: singular, however large the other's noise is.
TEST(NoiseCompensation, DependentChannelsWithoutNoiseAreSolvedWithALittleDamping) {
  ThreadPool pool(1);
  const double t = kTokens;
  const std::vector<double> gram = {t, t, 0, t, t, 0, 0, 0, t};
  const std::vector<float> weight = {1, -2, 3};
  const std::vector<float> changed = compensate_input_noise(
      weight, 1, make_noise_filter(gram, kTokens, {0.0, 0.0, 0.5}, "w"), pool);
  EXPECT_FLOAT_EQ(changed[0], 1);
  EXPECT_FLOAT_EQ(changed[1], -2);
  EXPECT_NEAR(changed[2], 2, 1e-4);
}

TEST(NoiseCompensation, GramThatIsNotPositiveIsRefusedByName) {
  const std::vector<double> gram = {-5.0 * kTokens, 0, 0, 1.0 * kTokens};
  try {
    make_noise_filter(gram, kTokens, {0.1, 0.1}, "layers.3.down_proj");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNonFinite);
    EXPECT_NE(std::string(error.what()).find("layers.3.down_proj"), std::string::npos);
  }
}

}  // namespace
}  // namespace pare
