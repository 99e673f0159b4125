// A swapped linear runs as deployed, in the baseline's scales.
#include "eval/layer_swap.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/dtype.h"
#include "eval/layer_format.h"
#include "kernels/matmul.h"
#include "tests/eval_layers/layer_fixture.h"

namespace pare {
namespace {

constexpr uint32_t kSeed = 7;
constexpr int64_t kRows = 5;
constexpr int64_t kIn = 32;
constexpr int64_t kOut = 24;

std::vector<float> normal_values(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

struct Swapped {
  std::vector<float> y;
  OutputError error;
};

Swapped replace(const CompressedWeight& weight, std::vector<float> input, std::vector<float> output,
                const std::vector<float>& x, std::vector<float> y) {
  const LinearSwap swap(Linear::compressed(weight, {}, Precision::kBf16), std::move(input),
                        std::move(output));
  SwapScratch scratch;
  OutputError error;
  swap.replace(kRows, x.data(), y.data(), scratch, error);
  return {std::move(y), error};
}

TEST(LayerSwap, Decibel) {
  EXPECT_EQ((OutputError{3, 0}).decibel(), std::nullopt);
  EXPECT_NEAR((OutputError{100, 1}).decibel().value(), 20, 1e-12);
  EXPECT_NEAR((OutputError{1, 1000}).decibel().value(), -30, 1e-12);
  EXPECT_EQ((OutputError{0, 1}).decibel().value(), -300);
  EXPECT_EQ((OutputError{1, 1e-310}).decibel().value(), 300);
}

// y = round(x r / t) t · codes / s by hand, with the rounding of a static INT8 input.
TEST(LayerSwap, QuantizesTheRescaledInput) {
  const testing::MemoryTensor tensor{{kOut, kIn},
                                     normal_values(static_cast<size_t>(kOut * kIn), kSeed)};
  CompressedWeight weight = testing::int8_weight(tensor);
  weight.activation = ActivationFormat::kInt8Static;
  weight.input_scale = 0.0625F;
  const std::vector<float> x = normal_values(static_cast<size_t>(kRows * kIn), kSeed + 1);
  const std::vector<float> base = normal_values(static_cast<size_t>(kRows * kOut), kSeed + 2);
  std::vector<float> input(static_cast<size_t>(kIn));
  std::vector<float> output(static_cast<size_t>(kOut));
  std::mt19937 random(kSeed);
  input = testing::random_factors(input.size(), random);
  output = testing::random_factors(output.size(), random);
  const Swapped found = replace(weight, input, output, x, base);
  double signal = 0;
  double noise = 0;
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t o = 0; o < kOut; ++o) {
      double sum = 0;
      for (int64_t i = 0; i < kIn; ++i) {
        const float scaled = x[static_cast<size_t>(row * kIn + i)] * input[static_cast<size_t>(i)];
        const double value = static_cast<double>(bf16_to_f32(f32_to_bf16(scaled)));
        const double code = std::clamp(std::nearbyint(value / 0.0625), -127.0, 127.0);
        sum += code * 0.0625 *
               static_cast<double>(
                   static_cast<int8_t>(weight.codes[static_cast<size_t>(o * kIn + i)]));
      }
      const auto at = static_cast<size_t>(row * kOut + o);
      const double expected = sum * static_cast<double>(weight.scale[static_cast<size_t>(o)]) /
                              static_cast<double>(output[static_cast<size_t>(o)]);
      EXPECT_NEAR(static_cast<double>(found.y[at]), expected, 1e-5 * (1 + std::abs(expected)))
          << "seed " << kSeed << ", row " << row << ", output " << o;
      signal += static_cast<double>(base[at]) * static_cast<double>(base[at]);
      noise +=
          (expected - static_cast<double>(base[at])) * (expected - static_cast<double>(base[at]));
    }
  }
  EXPECT_NEAR(found.error.signal / signal, 1, 1e-6);
  EXPECT_NEAR(found.error.noise / noise, 1, 1e-4);
}

TEST(LayerSwap, NothingBeyondTheRowsIsTouched) {
  const testing::MemoryTensor tensor{{kOut, kIn},
                                     normal_values(static_cast<size_t>(kOut * kIn), kSeed)};
  const std::vector<float> x = normal_values(static_cast<size_t>(kRows * kIn), kSeed + 1);
  std::vector<float> y(static_cast<size_t>((kRows + 2) * kOut), 7.0F);
  const Swapped found = replace(testing::int8_weight(tensor), {}, {}, x, y);
  for (size_t i = static_cast<size_t>(kRows * kOut); i < found.y.size(); ++i) {
    EXPECT_EQ(found.y[i], 7.0F);
  }
}

TEST(LayerFormat, NamesWhatIsStored) {
  const auto config = testing::small_llama_config();
  testing::MixedSource source(testing::random_model(config, kSeed));
  const std::vector<std::string> names = testing::linear_weights(testing::graph_of(config));
  CompressedWeight weight = testing::int8_weight(testing::tensor_of(source, names[0]));
  source.compress(names[0], weight);
  weight.activation = ActivationFormat::kInt8Dynamic;
  source.compress(names[1], weight);
  weight.format = WeightFormat::kInt4;
  weight.activation = ActivationFormat::kBf16;
  source.compress(names[2], weight);
  weight.format = WeightFormat::kBf16;
  source.compress(names[3], weight);
  EXPECT_EQ(linear_qformat(source, names[0]), "int8_wo");
  EXPECT_EQ(linear_qformat(source, names[1]), "int8_sq");
  EXPECT_EQ(linear_qformat(source, names[2]), "int4_wo");
  EXPECT_EQ(linear_qformat(source, names[3]), "bf16");
  EXPECT_EQ(linear_qformat(source, names[4]), "fp32");
  source.set_recipe(R"({"schema":"pare.recipe/1","qformat":"int4_awq"})");
  EXPECT_EQ(linear_qformat(source, names[2]), "int4_awq");
  EXPECT_EQ(linear_qformat(source, names[1]), "int8_sq");
  source.set_recipe("{not json");
  EXPECT_EQ(linear_qformat(source, names[2]), "int4_wo");
}

}  // namespace
}  // namespace pare
