// Activations and caps of kernels/vector_math.h against their plain versions in double, from zero
// to the largest floats.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/vector_math_reference.h"
#include "tests/kernels/each_target.h"
#include "tests/kernels/random_values.h"

namespace pare {
namespace {

using testing::kRandomSeed;
using testing::normal_values;

constexpr float kLargest = std::numeric_limits<float>::max();

/// Every magnitude from the smallest float to the largest, with both signs, and −100 … 100 densely.
std::vector<float> whole_range() {
  std::vector<float> x = {0.0F, -0.0F, kLargest, -kLargest};
  for (float value = std::numeric_limits<float>::denorm_min(); value < kLargest / 2;
       value *= 1.37F) {
    x.push_back(value);
    x.push_back(-value);
    if (value < 1e-43F) value *= 2;  // or it would be rounded back
  }
  for (int i = -100000; i <= 100000; ++i) x.push_back(static_cast<float>(i) * 1.0003e-3F);
  return x;
}

void expect_close(std::span<const float> x, std::span<const float> found,
                  std::span<const float> expected, float relative, float absolute) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    if (found[i] == expected[i]) continue;  // also infinities
    ASSERT_NEAR(found[i], expected[i], std::abs(expected[i]) * relative + absolute)
        << "x = " << x[i];
  }
}

template <typename Function>
void check(Function function, Function plain, float relative, float absolute) {
  for_each_target([&] {
    const auto x = whole_range();
    auto found = x;
    auto expected = x;
    function(found);
    plain(expected);
    expect_close(x, found, expected, relative, absolute);
    std::vector<float> nan = {1, std::numeric_limits<float>::quiet_NaN(), 2};
    function(nan);
    EXPECT_TRUE(std::isnan(nan[1]));
    EXPECT_FALSE(std::isnan(nan[0]) || std::isnan(nan[2]));
    for (const size_t size : kOddSizes) {  // an element's result does not depend on its place
      auto row = normal_values(static_cast<int64_t>(size), kRandomSeed);
      auto shifted = row;
      function(row);
      for (size_t i = 0; i < size; ++i) function(std::span(shifted).subspan(i, 1));
      ASSERT_EQ(row, shifted);
    }
  });
}

TEST(Activation, QuickGelu) { check(&quick_gelu, &reference::quick_gelu, 4e-7F, 1e-36F); }

TEST(Activation, Sigmoid) { check(&sigmoid, &reference::sigmoid, 4e-7F, 1e-37F); }

TEST(Activation, Softplus) { check(&softplus, &reference::softplus, 4e-7F, 2e-38F); }

TEST(Activation, SoftCap) {
  for (const float cap : {1.0F, 30.0F, 50.0F}) {
    for_each_target([&] {
      const auto x = whole_range();
      auto found = x;
      auto expected = x;
      soft_cap_in_place(found, cap);
      reference::soft_cap_in_place(expected, cap);
      expect_close(x, found, expected, 4e-7F, 1e-43F);
      EXPECT_LE(*std::max_element(found.begin(), found.end()), cap);
      EXPECT_GE(*std::min_element(found.begin(), found.end()), -cap);
    });
  }
}

TEST(Activation, KnownValues) {
  for_each_target([] {
    std::vector<float> x = {0, 1};
    softplus(x);
    EXPECT_NEAR(x[0], 0.6931472F, 1e-7F);
    EXPECT_NEAR(x[1], 1.3132617F, 2e-7F);
    x = {0.5F};
    soft_cap_in_place(x, 1);
    EXPECT_NEAR(x[0], 0.4621172F, 6e-8F);
    x = {1};
    quick_gelu(x);
    EXPECT_NEAR(x[0], 0.8457958F, 1e-7F);
  });
}

TEST(Activation, ClampIsExactAndKeepsNan) {
  for_each_target([] {
    const auto values = whole_range();
    auto found = values;
    auto expected = values;
    clamp_in_place(found, -0.7F, 30.5F);
    reference::clamp_in_place(expected, -0.7F, 30.5F);
    ASSERT_EQ(found, expected);
    std::vector<float> nan = {std::numeric_limits<float>::quiet_NaN()};
    clamp_in_place(nan, -1, 1);
    EXPECT_TRUE(std::isnan(nan[0]));
  });
}

using Gate = void (*)(std::span<const float>, std::span<const float>, std::span<float>);

TEST(Activation, GatesAreTheActivationTimesUp) {
  struct Pair {
    Gate gate;
    Gate plain;
    void (*alone)(std::span<float>);
  };
  for (const Pair& pair :
       {Pair{&quick_gelu_multiply, &reference::quick_gelu_multiply, &quick_gelu},
        Pair{&relu_multiply, &reference::relu_multiply, &relu},
        Pair{&relu_squared_multiply, &reference::relu_squared_multiply, &relu_squared}}) {
    for_each_target([&] {
      for (const size_t size : kOddSizes) {
        auto gate = normal_values(static_cast<int64_t>(size), kRandomSeed);
        for (float& value : gate) value *= 4;
        const auto up = normal_values(static_cast<int64_t>(size), kRandomSeed + 1);
        std::vector<float> found(size);
        std::vector<float> expected(size);
        pair.gate(gate, up, found);
        pair.plain(gate, up, expected);
        expect_close(gate, found, expected, 6e-7F, 1e-36F);
        auto product = gate;
        pair.alone(product);
        multiply_in_place(product, up);
        ASSERT_EQ(found, product);
        pair.gate(gate, up, gate);  // in place
        ASSERT_EQ(gate, found);
      }
    });
  }
}

TEST(Activation, ClampedSwiglu) {
  for_each_target([] {
    auto gate = whole_range();
    std::vector<float> up(gate.size());
    for (size_t i = 0; i < up.size(); ++i) up[i] = gate[(i * 7919) % up.size()];
    for (const float alpha : {1.702F, 1.0F, 0.3F}) {
      for (const float limit : {7.0F, 2.5F}) {
        std::vector<float> found(gate.size());
        std::vector<float> expected(gate.size());
        clamped_swiglu(gate, up, alpha, limit, found);
        reference::clamped_swiglu(gate, up, alpha, limit, expected);
        // up + 1 is rounded to float, which counts where it cancels.
        for (size_t i = 0; i < found.size(); ++i) {
          const float factor = std::min(std::abs(gate[i]), limit) * 6e-8F;
          ASSERT_NEAR(found[i], expected[i], std::abs(expected[i]) * 6e-7F + factor + 1e-35F)
              << "gate " << gate[i] << ", up " << up[i] << ", alpha " << alpha;
        }
      }
    }
    std::vector<float> one = {9};
    const std::vector<float> above = {8};
    clamped_swiglu(one, above, 1.702F, 7, one);  // in place: 8 × 7 × σ(11.914)
    EXPECT_NEAR(one[0], 55.999625F, 1e-5F);
  });
}

TEST(Activation, AddScaledIsExact) {
  for_each_target([] {
    for (const size_t size : kOddSizes) {
      auto y = normal_values(static_cast<int64_t>(size), kRandomSeed);
      const auto x = normal_values(static_cast<int64_t>(size), kRandomSeed + 1);
      auto expected = y;
      add_scaled(y, 0.37F, x);
      reference::add_scaled(expected, 0.37F, x);
      ASSERT_EQ(y, expected);
    }
  });
}

TEST(Norm, RmsNormWithoutWeightIsAWeightOfOne) {
  for_each_target([] {
    for (const size_t size : kOddSizes) {
      if (size == 0) continue;
      auto x = normal_values(static_cast<int64_t>(size), kRandomSeed);
      const std::vector<float> ones(size, 1.0F);
      std::vector<float> found(size);
      std::vector<float> expected(size);
      rms_norm_row(x, {}, 1e-6F, found);
      rms_norm_row(x, ones, 1e-6F, expected);
      ASSERT_EQ(found, expected);
      reference::rms_norm_row(x, {}, 1e-6F, expected);
      expect_close(x, found, expected, 2.5e-7F, 1e-30F);
      rms_norm_row(x, {}, 1e-6F, x);
      ASSERT_EQ(x, found);
    }
  });
}

TEST(Norm, LayerNormInPlace) {
  for_each_target([] {
    for (const size_t size : kOddSizes) {
      if (size == 0) continue;
      auto x = normal_values(static_cast<int64_t>(size), kRandomSeed);
      const auto weight = normal_values(static_cast<int64_t>(size), kRandomSeed + 1);
      const auto bias = normal_values(static_cast<int64_t>(size), kRandomSeed + 2);
      std::vector<float> found(size);
      layer_norm_row(x, weight, bias, 1e-5F, found);
      layer_norm_row(x, weight, bias, 1e-5F, x);
      ASSERT_EQ(x, found);
    }
  });
}

TEST(Rotary, InterleavedIsExactAndLeavesTheRestAlone) {
  for_each_target([] {
    for (const int64_t half : {1, 2, 5, 8, 16, 20, 32, 33, 64}) {
      auto head = normal_values(2 * half + 3, kRandomSeed);
      const auto cosine = normal_values(half, kRandomSeed + 1);
      const auto sine = normal_values(half, kRandomSeed + 2);
      auto expected = head;
      rotate_interleaved(head, cosine, sine);
      reference::rotate_interleaved(expected, cosine, sine);
      ASSERT_EQ(head, expected);
    }
  });
}

// The layouts differ in the order of the channels alone.
TEST(Rotary, InterleavedIsHalfSplitAfterReordering) {
  constexpr size_t kHalf = 21;
  const auto head = normal_values(2 * kHalf, kRandomSeed);
  const auto cosine = normal_values(kHalf, kRandomSeed + 1);
  const auto sine = normal_values(kHalf, kRandomSeed + 2);
  const auto split = [](const std::vector<float>& x) {
    std::vector<float> out;
    for (size_t i = 0; i < x.size(); i += 2) out.push_back(x[i]);
    for (size_t i = 1; i < x.size(); i += 2) out.push_back(x[i]);
    return out;
  };
  auto neighbours = head;
  rotate_interleaved(neighbours, cosine, sine);
  auto halves = split(head);
  rotate_half(halves, cosine, sine);
  EXPECT_EQ(split(neighbours), halves);
}

}  // namespace
}  // namespace pare
