#include "kernels/causal_conv.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "pare/error.h"
#include "tests/kernels/each_target.h"
#include "tests/kernels/random_values.h"

namespace pare {
namespace {

using testing::kRandomSeed;
using testing::normal_values;

struct Convolution {
  int64_t rows, channels, kernel, stride;
  std::vector<float> x, weight, bias, state;

  Convolution(int64_t rows_, int64_t channels_, int64_t kernel_, int64_t extra)
      : rows(rows_),
        channels(channels_),
        kernel(kernel_),
        stride(channels_ + extra),
        x(normal_values(rows * stride, kRandomSeed)),
        weight(normal_values(channels * kernel, kRandomSeed + 1)),
        bias(normal_values(channels, kRandomSeed + 2)),
        state(normal_values((kernel - 1) * channels, kRandomSeed + 3)) {}

  std::vector<float> run(std::span<const float> with_bias, std::vector<float>& after) const {
    after = state;
    std::vector<float> out(static_cast<size_t>(rows * channels), NAN);
    causal_conv(x.data(), rows, stride, weight, with_bias, channels, kernel, after, out.data());
    return out;
  }
};

TEST(CausalConv, IsThePlainConvolution) {
  for_each_target([] {
    for (const int64_t channels : {1, 7, 16, 33, 257}) {
      for (const int64_t kernel : {1, 2, 3, 4, 5, 60}) {
        for (const int64_t rows : {0, 1, 2, 3, 17}) {
          const Convolution c(rows, channels, kernel, 5);
          for (const bool with_bias : {false, true}) {
            const auto bias = with_bias ? std::span<const float>(c.bias) : std::span<const float>();
            std::vector<float> after;
            const auto found = c.run(bias, after);
            auto expected_after = c.state;
            std::vector<float> expected(found.size());
            reference::causal_conv(c.x.data(), rows, c.stride, c.weight, bias, channels, kernel,
                                   expected_after, expected.data());
            ASSERT_EQ(after, expected_after);
            for (size_t i = 0; i < found.size(); ++i) {
              ASSERT_NEAR(found[i], expected[i], 2e-6F * std::sqrt(static_cast<float>(kernel)))
                  << "rows " << rows << ", channels " << channels << ", kernel " << kernel
                  << ", element " << i << ", seed " << kRandomSeed;
            }
          }
        }
      }
    }
  });
}

TEST(CausalConv, AnImpulseGivesTheWeightsBackwards) {
  for_each_target([] {
    const std::vector<float> weight = {1, 2, 3, 4};
    std::vector<float> state(3, 0.0F);
    const std::vector<float> x = {1, 0, 0, 0, 0};
    std::vector<float> out(5);
    causal_conv(x.data(), 5, 1, weight, {}, 1, 4, state, out.data());
    EXPECT_EQ(out, (std::vector<float>{4, 3, 2, 1, 0}));
    EXPECT_EQ(state, (std::vector<float>{0, 0, 0}));
  });
}

TEST(CausalConv, CutsGiveTheSameBytes) {
  for_each_target([] {
    for (const int64_t kernel : {1, 4, 9}) {
      const Convolution c(50, 37, kernel, 3);
      std::vector<float> whole_after;
      const auto whole = c.run(c.bias, whole_after);
      std::mt19937 random(kRandomSeed);
      for (int trial = 0; trial < 5; ++trial) {
        auto state = c.state;
        std::vector<float> out(whole.size(), NAN);
        for (int64_t row = 0; row < c.rows;) {
          const int64_t rows = std::min<int64_t>(static_cast<int64_t>(random() % 12), c.rows - row);
          causal_conv(c.x.data() + row * c.stride, rows, c.stride, c.weight, c.bias, c.channels,
                      kernel, state, out.data() + row * c.channels);
          row += rows;
        }
        ASSERT_EQ(out, whole) << "kernel " << kernel << ", seed " << kRandomSeed;
        ASSERT_EQ(state, whole_after);
      }
    }
  });
}

TEST(CausalConv, TooLongAKernelIsAnError) {
  Convolution c(1, 1, kLongestConvKernel + 1, 0);
  std::vector<float> after;
  EXPECT_THROW(c.run({}, after), Error);
}

}  // namespace
}  // namespace pare
