#include "calib/statistics.h"

#include <gtest/gtest.h>

#include "pare/error.h"
#include "tests/quant/random_layer.h"

namespace pare {
namespace {

// Powers of two commute with every rounding, so both ways must agree to the bit.
TEST(Statistics, RescaledEqualsStatisticsOfRescaledInput) {
  constexpr int64_t kTokens = 24;
  constexpr int64_t kColumns = 12;
  auto x = test::random_activations(3, kTokens, kColumns, 20);
  const InputStatistics before = test::statistics_of(x, kTokens, kColumns);
  std::vector<float> scale(kColumns);
  for (size_t i = 0; i < scale.size(); ++i) scale[i] = i % 3 == 0 ? 0.25F : 2.0F;
  for (size_t i = 0; i < x.size(); ++i) x[i] *= scale[i % kColumns];
  const InputStatistics expected = test::statistics_of(x, kTokens, kColumns);
  const InputStatistics found = rescale(before, scale);
  EXPECT_EQ(found.tokens, kTokens);
  EXPECT_EQ(found.amax, expected.amax);
  EXPECT_EQ(found.mean_abs, expected.mean_abs);
  EXPECT_EQ(found.gram, expected.gram);
  EXPECT_EQ(found.square_sum, expected.square_sum);
  EXPECT_EQ(found.sample, expected.sample);
}

TEST(Statistics, EmptyScaleIsTheIdentity) {
  const auto x = test::random_activations(4, 8, 8, 1);
  const InputStatistics before = test::statistics_of(x, 8, 8);
  EXPECT_EQ(rescale(before, {}).gram, before.gram);
}

TEST(Statistics, GramStaysSymmetric) {
  const auto x = test::random_activations(5, 32, 16, 7);
  const InputStatistics found =
      rescale(test::statistics_of(x, 32, 16), test::random_weight(6, 1, 16));
  for (size_t i = 0; i < 16; ++i) {
    for (size_t j = 0; j < i; ++j) EXPECT_EQ(found.gram[i * 16 + j], found.gram[j * 16 + i]);
  }
}

TEST(Statistics, WrongNumberOfScalesIsRefused) {
  const auto x = test::random_activations(7, 4, 8, 1);
  EXPECT_THROW(rescale(test::statistics_of(x, 4, 8), std::vector<float>(7, 1.0F)), Error);
}

}  // namespace
}  // namespace pare
