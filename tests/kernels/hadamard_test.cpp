#include "kernels/hadamard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "pare/error.h"
#include "tests/kernels/random_values.h"

namespace pare::testing {
namespace {

// Powers of two, both constructions of Paley, Hartley matrices of odd parts, and all together.
const std::vector<int64_t> kWidths = {1,  2,  3,  4,  5,  6,  7,   8,   10,  12,  14, 20,
                                      24, 28, 36, 40, 52, 60, 100, 104, 180, 192, 368};

class Rotation : public ::testing::TestWithParam<int64_t> {
 protected:
  const int64_t width_ = GetParam();
  const HadamardRotation rotation_{width_, 7};
  const std::vector<double> q_ = rotation_.matrix();

  double at(int64_t i, int64_t j) const { return q_[static_cast<size_t>(i * width_ + j)]; }
};
INSTANTIATE_TEST_SUITE_P(Widths, Rotation, ::testing::ValuesIn(kWidths));

TEST_P(Rotation, IsOrthogonal) {
  for (int64_t i = 0; i < width_; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double rows = 0;
      double columns = 0;
      for (int64_t k = 0; k < width_; ++k) {
        rows += at(i, k) * at(j, k);
        columns += at(k, i) * at(k, j);
      }
      EXPECT_NEAR(rows, i == j ? 1 : 0, 1e-12) << i << ", " << j;
      EXPECT_NEAR(columns, i == j ? 1 : 0, 1e-12) << i << ", " << j;
    }
  }
}

TEST_P(Rotation, SpreadsEveryChannel) {
  const double even = 1 / std::sqrt(static_cast<double>(width_));
  const bool hartley = rotation_.describe().find("Hartley") != std::string::npos;
  for (const double entry : q_) {
    if (hartley) {
      EXPECT_LE(std::abs(entry), std::sqrt(2.0) * even * (1 + 1e-12));
    } else {
      EXPECT_NEAR(std::abs(entry), even, 1e-15);
    }
  }
}

TEST_P(Rotation, FastProductIsTheDenseOne) {
  constexpr int64_t kVectors = 5;
  const std::vector<float> values = normal_values(width_ * kVectors, kRandomSeed);
  std::vector<float> fast = values;
  rotation_.apply(fast, kVectors);
  for (int64_t v = 0; v < kVectors; ++v) {
    for (int64_t j = 0; j < width_; ++j) {
      double sum = 0;
      for (int64_t i = 0; i < width_; ++i) {
        sum += static_cast<double>(values[static_cast<size_t>(i * kVectors + v)]) * at(i, j);
      }
      EXPECT_NEAR(static_cast<double>(fast[static_cast<size_t>(j * kVectors + v)]), sum, 4e-6)
          << "seed " << kRandomSeed;
    }
  }
}

TEST_P(Rotation, AVectorIsTheSameAloneAndAmongOthers) {
  constexpr int64_t kVectors = 33;
  std::vector<float> values = normal_values(width_ * kVectors, kRandomSeed);
  std::vector<float> alone;
  for (int64_t i = 0; i < width_; ++i) alone.push_back(values[static_cast<size_t>(i * 33 + 17)]);
  rotation_.apply(values, kVectors);
  rotation_.apply(alone, 1);
  for (int64_t i = 0; i < width_; ++i) {
    EXPECT_EQ(alone[static_cast<size_t>(i)], values[static_cast<size_t>(i * 33 + 17)]);
  }
}

// By std::mt19937_64's definition, computed apart from it.
TEST(HadamardRotation, SignsAreThoseOfTheSeed) {
  const std::vector<std::vector<int>> signs = {{1, -1, 1, -1, -1, 1, -1, 1, -1, -1, 1, -1},
                                               {-1, -1, 1, -1, 1, 1, -1, -1, 1, -1, -1, -1}};
  const std::vector<uint64_t> seeds = {0, 7};
  for (size_t s = 0; s < seeds.size(); ++s) {
    const std::vector<double> q = HadamardRotation(12, seeds[s]).matrix();
    // The first column of a Paley matrix is 1, −1, −1 …
    for (size_t i = 0; i < 12; ++i) {
      EXPECT_EQ(q[12 * i] > 0, (signs[s][i] > 0) == (i == 0)) << "seed " << seeds[s] << ", " << i;
    }
  }
}

TEST(HadamardRotation, OfTwoAndFourIsSylvesters) {
  std::vector<double> q = HadamardRotation(4, 0).matrix();
  for (size_t i = 0; i < 4; ++i) {
    const double sign = q[4 * i] < 0 ? -1 : 1;
    for (size_t j = 0; j < 4; ++j) q[4 * i + j] *= sign;
  }
  const double h = 0.5;
  EXPECT_THAT(q, ::testing::ElementsAre(h, h, h, h, h, -h, h, -h, h, h, -h, -h, h, -h, -h, h));
}

TEST(HadamardRotation, SaysWhatItIs) {
  const auto describe = [](int64_t width) { return HadamardRotation(width, 0).describe(); };
  EXPECT_EQ(describe(4096), "4096");
  EXPECT_EQ(describe(640), "32 x 20, Paley");
  EXPECT_EQ(describe(2560), "128 x 20, Paley");
  EXPECT_EQ(describe(2880), "16 x 180, Paley");
  EXPECT_EQ(describe(3584), "128 x 28, Paley");
  EXPECT_EQ(describe(5120), "256 x 20, Paley");
  EXPECT_EQ(describe(10), "2 x 5, Hartley");
  EXPECT_EQ(describe(7), "1 x 7, Hartley");
}

TEST(HadamardRotation, SpreadsASpike) {
  std::vector<float> values(640, 0.01F);
  values[77] = 100;
  HadamardRotation(640, 0).apply(values, 1);
  for (const float value : values) EXPECT_NEAR(std::abs(value), 100 / std::sqrt(640.0), 0.1);
}

// A constant vector is a spike to a Hadamard matrix without signs.
TEST(HadamardRotation, SpreadsAConstant) {
  std::vector<float> values(640, 1.0F);
  HadamardRotation(640, 0).apply(values, 1);
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  EXPECT_LT(std::max(-*least, *most), 5);
}

TEST(HadamardRotation, OtherSeedsGiveOtherMatrices) {
  EXPECT_NE(HadamardRotation(64, 0).matrix(), HadamardRotation(64, 1).matrix());
  EXPECT_EQ(HadamardRotation(64, 1).matrix(), HadamardRotation(64, 1).matrix());
}

TEST(HadamardRotation, WidthsWithoutOneAreRefused) {
  for (const int64_t width : {int64_t{0}, int64_t{-4}, INT64_MIN, int64_t{2 * 4099}, INT64_MAX}) {
    EXPECT_FALSE(HadamardRotation::exists(width));
    try {
      const HadamardRotation rotation(width, 0);
      ADD_FAILURE() << width;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage);
      EXPECT_THAT(error.what(), ::testing::HasSubstr(std::to_string(width)));
    }
  }
  std::vector<float> few(11);
  EXPECT_THROW(HadamardRotation(12, 0).apply(few, 1), Error);
}

}  // namespace
}  // namespace pare::testing
