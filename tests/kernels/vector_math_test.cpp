#include "kernels/vector_math.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/vector_math_reference.h"
#include "tests/kernels/each_target.h"

namespace pare {
namespace {

constexpr unsigned kSeed = 20240611;

/// Normal values, with a few large ones, at an address that is no multiple of a vector.
class Row {
 public:
  Row(size_t size, unsigned seed, float spread = 1.0F) : storage_(size + 1), size_(size) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal(0.0F, spread);
    for (float& value : storage_) value = normal(generator);
    for (size_t i = 0; i < storage_.size(); i += 37) storage_[i] *= 50.0F;
  }
  std::span<float> values() { return std::span(storage_).subspan(1, size_); }

 private:
  std::vector<float> storage_;
  size_t size_;
};

std::vector<float> copy(std::span<const float> x) { return {x.begin(), x.end()}; }

void expect_close(std::span<const float> found, std::span<const float> expected, float relative,
                  float absolute) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(found[i], expected[i], std::abs(expected[i]) * relative + absolute)
        << "element " << i << " of " << found.size() << ", seed " << kSeed;
  }
}

void expect_equal(std::span<const float> found, std::span<const float> expected) {
  expect_close(found, expected, 0, 0);
}

TEST(VectorMath, SumOfSquaresIsTheNearestFloat) {
  for_each_target([] {
    for (const size_t size : kOddSizes) {
      Row x(size, kSeed);
      const float expected = reference::sum_of_squares(x.values());
      EXPECT_NEAR(sum_of_squares(x.values()), expected, expected * 6e-8F) << size;
    }
    const std::vector<float> three_four = {3, 4};
    EXPECT_EQ(sum_of_squares(three_four), 25.0F);
  });
}

TEST(VectorMath, RmsNorm) {
  for_each_target([] {
    for (const size_t size : kOddSizes) {
      if (size == 0) continue;
      Row x(size, kSeed);
      Row weight(size, kSeed + 1);
      std::vector<float> found(size);
      std::vector<float> expected(size);
      rms_norm_row(x.values(), weight.values(), 1e-5F, found);
      reference::rms_norm_row(x.values(), weight.values(), 1e-5F, expected);
      expect_close(found, expected, 2.5e-7F, 1e-30F);
      rms_norm_row(x.values(), weight.values(), 1e-5F, x.values());
      expect_equal(x.values(), found);
    }
  });
}

TEST(VectorMath, RmsNormDoesNotOverflowWhereFloatSquaresWould) {
  for_each_target([] {
    const std::vector<float> x(20, 1e25F);
    const std::vector<float> weight(20, 2.0F);
    std::vector<float> out(20);
    rms_norm_row(x, weight, 1e-5F, out);
    expect_close(out, weight, 2.5e-7F, 0);
  });
}

TEST(VectorMath, LayerNorm) {
  for_each_target([] {
    for (const size_t size : kOddSizes) {
      if (size == 0) continue;
      Row x(size, kSeed);
      for (float& value : x.values()) value += 1000.0F;  // a mean far above the deviation
      Row weight(size, kSeed + 1);
      Row bias(size, kSeed + 2);
      std::vector<float> found(size);
      std::vector<float> expected(size);
      for (const bool with_bias : {false, true}) {
        for (const bool with_weight : {false, true}) {
          const auto w = with_weight ? weight.values() : std::span<float>();
          const auto b = with_bias ? bias.values() : std::span<float>();
          layer_norm_row(x.values(), w, b, 1e-5F, found);
          reference::layer_norm_row(x.values(), w, b, 1e-5F, expected);
          expect_close(found, expected, 3e-7F, with_bias ? 1e-4F * 1e-2F : 1e-12F);
        }
      }
    }
  });
}

/// −30 … 30 densely, then the far ends.
std::vector<float> activation_inputs() {
  std::vector<float> x;
  for (int i = -30000; i <= 30000; ++i) x.push_back(static_cast<float>(i) * 1.0003e-3F);
  for (const float far : {40.0F, 79.5F, 200.0F, 3e38F}) {
    x.push_back(far);
    x.push_back(-far);
  }
  for (const float tiny : {0.0F, 1e-38F, 1e-20F, 1e-8F}) {
    x.push_back(tiny);
    x.push_back(-tiny);
  }
  return x;
}

TEST(VectorMath, Silu) {
  for_each_target([] {
    auto found = activation_inputs();
    auto expected = found;
    silu(found);
    reference::silu(expected);
    expect_close(found, expected, 4e-7F, 1e-36F);
  });
}

template <typename Function>
void check_gelu(Function function, Function plain) {
  for_each_target([&] {
    const auto x = activation_inputs();
    auto found = x;
    auto expected = x;
    function(found);
    plain(expected);
    for (size_t i = 0; i < x.size(); ++i) {
      const float tolerance = x[i] > -3 ? std::abs(expected[i]) * 1e-6F + 1e-44F : 1e-8F;
      ASSERT_NEAR(found[i], expected[i], tolerance) << "x = " << x[i];
    }
  });
}

TEST(VectorMath, GeluTanh) { check_gelu(&gelu_tanh, &reference::gelu_tanh); }

TEST(VectorMath, GeluErf) { check_gelu(&gelu_erf, &reference::gelu_erf); }

TEST(VectorMath, GeluErfKeepsItsRelativeErrorInTheTail) {
  for_each_target([] {
    std::vector<float> x;
    for (int i = 0; i < 1000; ++i) x.push_back(-3.0F - static_cast<float>(i) * 0.0097F);
    auto expected = x;
    gelu_erf(x);
    reference::gelu_erf(expected);
    expect_close(x, expected, 1e-6F, 0);
  });
}

TEST(VectorMath, GeluKnownValues) {
  // From tables of the normal distribution: Φ(1) = 0.8413447, Φ(−2) = 0.0227501.
  for_each_target([] {
    std::vector<float> x = {1, -2, 0};
    gelu_erf(x);
    EXPECT_NEAR(x[0], 0.8413447F, 1e-6F);
    EXPECT_NEAR(x[1], -0.0455003F, 1e-7F);
    EXPECT_EQ(x[2], 0.0F);
  });
}

TEST(VectorMath, Relu) {
  for_each_target([] {
    for (const size_t size : kOddSizes) {
      Row x(size, kSeed);
      auto expected = copy(x.values());
      auto squared = expected;
      auto expected_squared = expected;
      relu(x.values());
      reference::relu(expected);
      expect_equal(x.values(), expected);
      relu_squared(squared);
      reference::relu_squared(expected_squared);
      expect_equal(squared, expected_squared);
    }
    std::vector<float> nan = {std::numeric_limits<float>::quiet_NaN()};
    relu(nan);
    EXPECT_TRUE(std::isnan(nan[0]));
  });
}

TEST(VectorMath, GatedActivationsAreTheActivationTimesUp) {
  for_each_target([] {
    for (const size_t size : kOddSizes) {
      Row gate(size, kSeed);
      Row up(size, kSeed + 1);
      std::vector<float> found(size);
      auto expected = copy(gate.values());
      silu(expected);
      multiply_in_place(expected, up.values());
      silu_multiply(gate.values(), up.values(), found);
      expect_equal(found, expected);
      std::vector<float> plain(size);
      reference::silu_multiply(gate.values(), up.values(), plain);
      expect_close(found, plain, 5e-7F, 1e-36F);

      expected = copy(gate.values());
      gelu_tanh(expected);
      multiply_in_place(expected, up.values());
      gelu_tanh_multiply(gate.values(), up.values(), found);
      expect_equal(found, expected);

      expected = copy(gate.values());
      gelu_erf(expected);
      multiply_in_place(expected, up.values());
      gelu_erf_multiply(gate.values(), up.values(), found);
      expect_equal(found, expected);

      silu_multiply(gate.values(), up.values(), up.values());  // in place
      silu_multiply(gate.values(), Row(size, kSeed + 1).values(), found);
      expect_equal(up.values(), found);
    }
  });
}

TEST(VectorMath, ElementwiseArithmeticIsExact) {
  for_each_target([] {
    for (const size_t size : kOddSizes) {
      Row x(size, kSeed);
      Row y(size, kSeed + 1);
      auto expected = copy(x.values());
      add_in_place(x.values(), y.values());
      reference::add_in_place(expected, y.values());
      expect_equal(x.values(), expected);
      multiply_in_place(x.values(), y.values());
      reference::multiply_in_place(expected, y.values());
      expect_equal(x.values(), expected);
      scale_in_place(x.values(), 0.3F);
      reference::scale_in_place(expected, 0.3F);
      expect_equal(x.values(), expected);
      Row rows(3 * size, kSeed + 2);
      expected = copy(rows.values());
      add_bias_rows(rows.values(), 3, y.values());
      reference::add_bias_rows(expected, 3, y.values());
      expect_equal(rows.values(), expected);
    }
  });
}

TEST(VectorMath, ScaleToF32IsExact) {
  for_each_target([] {
    std::mt19937 generator(kSeed);
    for (const size_t size : kOddSizes) {
      std::vector<int32_t> in(size);
      for (int32_t& value : in) value = static_cast<int32_t>(generator());
      if (size > 2) in[1] = std::numeric_limits<int32_t>::min();
      Row scale(size, kSeed);
      std::vector<float> found(size);
      std::vector<float> expected(size);
      scale_to_f32(in, scale.values(), 0.037F, found);
      reference::scale_to_f32(in, scale.values(), 0.037F, expected);
      expect_equal(found, expected);
      const std::vector<float> one = {0.11F};
      scale_to_f32(in, one, 0.037F, found);
      reference::scale_to_f32(in, one, 0.037F, expected);
      expect_equal(found, expected);
    }
  });
}

TEST(VectorMath, RotateHalfIsExactAndLeavesTheRestAlone) {
  for_each_target([] {
    for (const size_t half : {1U, 2U, 5U, 8U, 16U, 20U, 32U, 33U, 64U}) {
      Row head(2 * half + 3, kSeed);
      Row cosine(half, kSeed + 1);
      Row sine(half, kSeed + 2);
      auto expected = copy(head.values());
      rotate_half(head.values(), cosine.values(), sine.values());
      reference::rotate_half(expected, cosine.values(), sine.values());
      expect_equal(head.values(), expected);
    }
  });
}

TEST(VectorMath, RotateHalfByAQuarterTurn) {
  std::vector<float> head = {1, 2, 3, 4, 9};
  const std::vector<float> cosine = {0, 0};
  const std::vector<float> sine = {1, 1};
  rotate_half(head, cosine, sine);
  EXPECT_EQ(head, (std::vector<float>{-3, -4, 1, 2, 9}));
}

}  // namespace
}  // namespace pare
