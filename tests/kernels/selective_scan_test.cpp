#include "kernels/selective_scan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/kernels/each_target.h"
#include "tests/kernels/random_values.h"

namespace pare {
namespace {

using testing::kRandomSeed;
using testing::normal_values;

/// Values whose logarithms are uniform.
std::vector<float> spread_values(int64_t size, double low, double high, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> logarithm(std::log(low), std::log(high));
  std::vector<float> values(static_cast<size_t>(size));
  for (float& value : values) value = static_cast<float>(std::exp(logarithm(random)));
  return values;
}

/// Rates from slow to so fast that nothing of a state is left after a row.
std::vector<float> decay_rates(int64_t size, uint32_t seed) {
  auto rates = spread_values(size, 0.05, 300, seed);
  for (float& rate : rates) rate = -rate;
  return rates;
}

/// Largest |found − expected| over the largest |expected|.
double distance(const std::vector<float>& found, const std::vector<float>& expected) {
  double difference = 0;
  double size = 1e-30;
  for (size_t i = 0; i < found.size(); ++i) {
    if (!std::isfinite(found[i])) return std::numeric_limits<double>::infinity();
    const auto value = static_cast<double>(expected[i]);
    difference = std::max(difference, std::abs(static_cast<double>(found[i]) - value));
    size = std::max(size, std::abs(value));
  }
  return difference / size;
}

struct Mamba {
  int64_t rows, channels, size;
  std::vector<float> x, dt, b, c, a, d, state;

  Mamba(int64_t rows_, int64_t channels_, int64_t size_)
      : rows(rows_),
        channels(channels_),
        size(size_),
        x(normal_values(rows * (channels + 3), kRandomSeed)),
        dt(spread_values(rows * channels, 0.001, 2, kRandomSeed + 1)),
        b(normal_values(rows * (size + 2), kRandomSeed + 2)),
        c(normal_values(rows * (size + 1), kRandomSeed + 3)),
        a(decay_rates(channels * size, kRandomSeed + 4)),
        d(normal_values(channels, kRandomSeed + 5)),
        state(normal_values(channels * size, kRandomSeed + 6)) {}

  SelectiveScanInput input(int64_t row, int64_t count) const {
    return {.x = x.data() + row * (channels + 3),
            .dt = dt.data() + row * channels,
            .b = b.data() + row * (size + 2),
            .c = c.data() + row * (size + 1),
            .rows = count,
            .x_stride = channels + 3,
            .b_stride = size + 2,
            .c_stride = size + 1};
  }
};

TEST(SelectiveScan, IsThePlainRecurrence) {
  for_each_target([] {
    for (const int64_t channels : {1, 5, 16, 33}) {
      for (const int64_t size : {1, 3, 16, 64, 65, 130}) {
        for (const int64_t rows : {0, 1, 2, 61}) {
          const Mamba m(rows, channels, size);
          auto found_state = m.state;
          auto expected_state = m.state;
          std::vector<float> found(static_cast<size_t>(rows * channels), NAN);
          auto expected = found;
          selective_scan(m.input(0, rows), m.a, m.d, channels, size, found_state, found.data());
          reference::selective_scan(m.input(0, rows), m.a, m.d, channels, size, expected_state,
                                    expected.data());
          ASSERT_LE(distance(found, expected), 3e-6)
              << channels << " " << size << " " << rows << ", seed " << kRandomSeed;
          ASSERT_LE(distance(found_state, expected_state), 3e-6);
        }
      }
    }
  });
}

TEST(SelectiveScan, CutsGiveTheSameBytes) {
  for_each_target([] {
    const Mamba m(100, 37, 70);
    auto whole_state = m.state;
    std::vector<float> whole(static_cast<size_t>(m.rows * m.channels), NAN);
    selective_scan(m.input(0, m.rows), m.a, m.d, m.channels, m.size, whole_state, whole.data());
    std::mt19937 random(kRandomSeed);
    for (int trial = 0; trial < 3; ++trial) {
      auto state = m.state;
      std::vector<float> y(whole.size(), NAN);
      for (int64_t row = 0; row < m.rows;) {
        const int64_t rows = std::min<int64_t>(static_cast<int64_t>(random() % 30), m.rows - row);
        selective_scan(m.input(row, rows), m.a, m.d, m.channels, m.size, state,
                       y.data() + row * m.channels);
        row += rows;
      }
      ASSERT_EQ(y, whole) << "seed " << kRandomSeed;
      ASSERT_EQ(state, whole_state) << "seed " << kRandomSeed;
    }
  });
}

// With dt = 1, a = −ln 2 and b = c = 1 the state is halved and takes x in.
TEST(SelectiveScan, KnownValues) {
  for_each_target([] {
    const std::vector<float> x = {8, 0, 4};
    const std::vector<float> ones = {1, 1, 1};
    const std::vector<float> a = {-0.69314718F};
    const std::vector<float> d = {10};
    std::vector<float> state = {0};
    std::vector<float> y(3);
    selective_scan({x.data(), ones.data(), ones.data(), ones.data(), 3}, a, d, 1, 1, state,
                   y.data());
    EXPECT_NEAR(y[0], 88, 1e-5F);
    EXPECT_NEAR(y[1], 4, 1e-6F);
    EXPECT_NEAR(y[2], 46, 1e-5F);
    EXPECT_NEAR(state[0], 6, 1e-6F);
    std::vector<float> without_skip(3);
    state = {0};
    selective_scan({x.data(), ones.data(), ones.data(), ones.data(), 3}, a, {}, 1, 1, state,
                   without_skip.data());
    EXPECT_NEAR(without_skip[0], 8, 1e-6F);
  });
}

// No decay at all, and decays far beyond the smallest float.
TEST(SelectiveScan, ExtremeStepsStayFinite) {
  for_each_target([] {
    for (const float step : {0.0F, 1e-30F, 1e3F, 1e20F}) {
      const std::vector<float> x(4, 0.0F);
      const std::vector<float> dt(4, step);
      const std::vector<float> one(4, 1.0F);
      const std::vector<float> a = {-16.0F};
      std::vector<float> state = {1.0F};
      std::vector<float> y(4);
      selective_scan({x.data(), dt.data(), one.data(), one.data(), 4}, a, {}, 1, 1, state,
                     y.data());
      EXPECT_NEAR(y[3], step < 1 ? 1.0F : 0.0F, 1e-37F) << step;
    }
  });
}

struct Mamba2 {
  int64_t rows;
  StateSpaceShape shape;
  std::vector<float> x, dt, b, c, a, d, state;

  Mamba2(int64_t rows_, const StateSpaceShape& shape_) : rows(rows_), shape(shape_) {
    shape.x_stride = shape.heads * shape.head_dim + 3;
    shape.dt_stride = shape.heads + 1;
    shape.b_stride = shape.groups * shape.state_size + 2;
    shape.c_stride = shape.groups * shape.state_size + 5;
    x = normal_values(rows * shape.x_stride, kRandomSeed);
    dt = spread_values(rows * shape.dt_stride, 0.001, 2, kRandomSeed + 1);
    b = normal_values(rows * shape.b_stride, kRandomSeed + 2);
    c = normal_values(rows * shape.c_stride, kRandomSeed + 3);
    a = decay_rates(shape.heads, kRandomSeed + 4);
    d = normal_values(shape.heads, kRandomSeed + 5);
    state = normal_values(shape.heads * shape.head_dim * shape.state_size, kRandomSeed + 6);
  }

  template <typename Scan>
  void run(Scan scan, int64_t row, int64_t count, std::vector<float>& carried,
           std::vector<float>& y) const {
    scan(x.data() + row * shape.x_stride, dt.data() + row * shape.dt_stride,
         b.data() + row * shape.b_stride, c.data() + row * shape.c_stride, count, a, d, shape,
         carried, y.data() + row * shape.heads * shape.head_dim);
  }
  std::vector<float> outputs() const {
    std::vector<float> y(static_cast<size_t>(rows * shape.heads * shape.head_dim), NAN);
    return y;
  }
};

TEST(StateSpaceScan, IsThePlainRecurrence) {
  for_each_target([] {
    for (const auto& shape :
         {StateSpaceShape{.heads = 1, .head_dim = 1, .state_size = 1},
          StateSpaceShape{.heads = 6, .head_dim = 5, .state_size = 16, .groups = 2},
          StateSpaceShape{.heads = 3, .head_dim = 16, .state_size = 65, .groups = 3},
          StateSpaceShape{.heads = 2, .head_dim = 33, .state_size = 130}}) {
      for (const int64_t rows : {0, 1, 2, 61, 300}) {
        const Mamba2 m(rows, shape);
        auto found_state = m.state;
        auto expected_state = m.state;
        auto found = m.outputs();
        auto expected = found;
        m.run(&state_space_scan, 0, rows, found_state, found);
        m.run(&reference::state_space_scan, 0, rows, expected_state, expected);
        ASSERT_LE(distance(found, expected), 3e-6)
            << "heads " << shape.heads << ", rows " << rows << ", seed " << kRandomSeed;
        ASSERT_LE(distance(found_state, expected_state), 3e-6);
      }
    }
  });
}

TEST(StateSpaceScan, CutsGiveTheSameBytes) {
  for_each_target([] {
    const Mamba2 m(300, {.heads = 4, .head_dim = 20, .state_size = 70, .groups = 2});
    auto whole_state = m.state;
    auto whole = m.outputs();
    m.run(&state_space_scan, 0, m.rows, whole_state, whole);
    std::mt19937 random(kRandomSeed);
    for (int trial = 0; trial < 3; ++trial) {
      auto state = m.state;
      auto y = m.outputs();
      for (int64_t row = 0; row < m.rows;) {
        const int64_t rows = std::min<int64_t>(static_cast<int64_t>(random() % 80), m.rows - row);
        m.run(&state_space_scan, row, rows, state, y);
        row += rows;
      }
      ASSERT_EQ(y, whole) << "seed " << kRandomSeed;
      ASSERT_EQ(state, whole_state) << "seed " << kRandomSeed;
    }
  });
}

// A head whose channels share one rate is Mamba's recurrence with equal rates.
TEST(StateSpaceScan, IsTheSelectiveScanWithEqualRates) {
  constexpr int64_t kRows = 40;
  constexpr int64_t kDim = 12;
  constexpr int64_t kSize = 8;
  const auto x = normal_values(kRows * kDim, kRandomSeed);
  const auto dt = spread_values(kRows, 0.01, 1, kRandomSeed + 1);
  const auto b = normal_values(kRows * kSize, kRandomSeed + 2);
  const auto c = normal_values(kRows * kSize, kRandomSeed + 3);
  const std::vector<float> a = {-1.3F};
  std::vector<float> wide_dt;
  for (const float step : dt) wide_dt.insert(wide_dt.end(), kDim, step);
  std::vector<float> state(kDim * kSize);
  std::vector<float> other_state(kDim * kSize);
  std::vector<float> y(kRows * kDim);
  std::vector<float> other(kRows * kDim);
  state_space_scan(x.data(), dt.data(), b.data(), c.data(), kRows, a, {},
                   {.heads = 1, .head_dim = kDim, .state_size = kSize}, state, y.data());
  selective_scan({x.data(), wide_dt.data(), b.data(), c.data(), kRows},
                 std::vector<float>(kDim * kSize, -1.3F), {}, kDim, kSize, other_state,
                 other.data());
  EXPECT_EQ(y, other);
  EXPECT_EQ(state, other_state);
}

}  // namespace
}  // namespace pare
