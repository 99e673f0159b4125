// What a quantized linear reads instead of its input, against the linear itself.
#include "model/rounded_input.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "kernels/codec.h"
#include "model/linear.h"
#include "pare/error.h"

namespace pare {
namespace {

constexpr int64_t kIn = 200;  // the last block of 128, and of 16, is shorter
constexpr int64_t kTokens = 5;

TEST(RoundedInput, StaticInt8ByHand) {
  const std::vector<float> x = {1.3F, -0.7F, 0.2F, 100.0F, -100.0F, 0.0F};
  EXPECT_EQ(rounded_input(x, 3, ActivationFormat::kInt8Static, 0.5F),
            (std::vector<float>{1.5F, -0.5F, 0.0F, 63.5F, -63.5F, 0.0F}));
}

TEST(RoundedInput, AScaleATokenKeepsTheLargestOfEach) {
  const std::vector<float> x = {2, 0.009F, -1, 1000, 9, -3};
  for (const ActivationFormat format :
       {ActivationFormat::kInt8Dynamic, ActivationFormat::kFp8Dynamic}) {
    const std::vector<float> rounded = rounded_input(x, 3, format, 0);
    EXPECT_FLOAT_EQ(rounded[0], 2);
    EXPECT_FLOAT_EQ(rounded[3], 1000);
  }
  EXPECT_EQ(rounded_input(x, 3, ActivationFormat::kInt8Dynamic, 0)[5], 0.0F);  // step 7.9
}

TEST(RoundedInput, NothingIsRoundedWhereNothingIsQuantized) {
  const std::vector<float> x = {1.0F, 1.001F, -3.14159F};
  EXPECT_EQ(rounded_input(x, 3, ActivationFormat::kBf16, 0), x);
}

// A linear with weights 1 on one channel and 0 elsewhere says what it reads there.
TEST(RoundedInput, IsWhatALinearOfTheFormatReads) {
  const unsigned seed = 20261122;
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(kTokens * kIn);
  for (float& value : x) value = normal(random) * std::exp(normal(random));
  for (const ActivationFormat activation :
       {ActivationFormat::kFp8Static, ActivationFormat::kInt8Static, ActivationFormat::kInt8Dynamic,
        ActivationFormat::kFp8Dynamic, ActivationFormat::kFp8Block, ActivationFormat::kNvfp4,
        ActivationFormat::kMxfp4}) {
    SCOPED_TRACE(static_cast<int>(activation));
    CompressedWeight weight;
    weight.activation = activation;
    weight.out_features = kIn;
    weight.in_features = kIn;
    std::vector<float> identity(kIn * kIn, 0.0F);
    for (int64_t i = 0; i < kIn; ++i) identity[static_cast<size_t>(i * (kIn + 1))] = 1;
    if (activation == ActivationFormat::kFp8Block) {
      weight.format = WeightFormat::kFp8E4m3;
      weight.group_size = kFp8BlockSize;
      weight.block_rows = kFp8BlockSize;
      weight.scale.assign(4, 1.0F);
      weight.codes.assign(kIn * kIn, 0);
      for (int64_t i = 0; i < kIn; ++i) weight.codes[static_cast<size_t>(i * (kIn + 1))] = 0x38;
    } else {
      std::vector<uint16_t> values(identity.size());
      f32_to_bf16(identity, values);
      pack_bf16_weight(values, {}, weight);
    }
    const float scale = has_input_scale(activation) ? 0.02F : 0.0F;
    weight.input_scale = scale;
    LinearInput input;
    const Linear linear = Linear::compressed(weight, {}, Precision::kBf16);
    std::vector<float> y(static_cast<size_t>(padded_rows(kTokens) * kIn));
    linear.prepare(x.data(), kTokens, input);
    linear.multiply(input, y.data());
    const std::vector<float> rounded = rounded_input(x, kIn, activation, scale);
    ASSERT_EQ(rounded.size(), x.size());
    bool differs = false;
    for (size_t i = 0; i < x.size(); ++i) {
      EXPECT_NEAR(rounded[i], y[i], 1e-6F * std::abs(y[i])) << i;
      differs = differs || rounded[i] != x[i];
    }
    EXPECT_TRUE(differs);
  }
}

TEST(RoundedInput, NanIsRefused) {
  const std::vector<float> x = {1, std::nanf(""), 2};
  EXPECT_THROW(rounded_input(x, 3, ActivationFormat::kFp8Dynamic, 0), Error);
}

}  // namespace
}  // namespace pare
