// Linears whose inputs have a scale of their own for each token or block, and FP4 weights, against
// the same sums in double precision.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <span>

#include "core/dtype.h"
#include "kernels/codec.h"
#include "kernels/codec_reference.h"
#include "model/linear.h"
#include "pare/error.h"

namespace pare {
namespace {

constexpr uint32_t kSeed = 20261121;
constexpr int64_t kOut = 150;  // two blocks of rows
constexpr int64_t kIn = 296;   // the last block of channels has 40

std::vector<float> random_values(int64_t count, float size) {
  std::mt19937 random(kSeed + static_cast<uint32_t>(count));
  std::normal_distribution<float> normal(0, size);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

CompressedWeight random_weight(WeightFormat format, ActivationFormat activation) {
  std::mt19937 random(kSeed);
  CompressedWeight weight;
  weight.format = format;
  weight.activation = activation;
  weight.out_features = kOut;
  weight.in_features = kIn;
  weight.group_size = format == WeightFormat::kNvfp4              ? kNvfp4Group
                      : format == WeightFormat::kMxfp4            ? kMxfp4Group
                      : activation == ActivationFormat::kFp8Block ? kFp8BlockSize
                                                                  : kPerChannel;
  if (activation == ActivationFormat::kFp8Block) weight.block_rows = kFp8BlockSize;
  if (activation == ActivationFormat::kNvfp4) weight.input_scale = 0.002F;
  if (format == WeightFormat::kNvfp4) weight.global_scale = 0.0007F;
  for (int64_t i = 0; i < weight.scale_rows() * weight.groups(); ++i) {
    const float drawn = std::ldexp(1.0F + static_cast<float>(random() % 8) / 8, -3);
    weight.scale.push_back(format == WeightFormat::kMxfp4 ? 0.125F * static_cast<float>(1 + i % 2)
                                                          : drawn);
  }
  std::vector<int8_t> codes(static_cast<size_t>(kOut * kIn));
  for (int8_t& code : codes) {
    const auto bits = static_cast<uint8_t>(random() % 256);
    code = static_cast<int8_t>(is_fp4(format) ? bits & 15 : (bits & 0x7f) == 0x7f ? 0x38 : bits);
  }
  pack_codes(codes, {}, weight);
  validate(weight, "test");
  return weight;
}

// The input as its codes times their scales say, by definition.
std::vector<double> quantized_input(const CompressedWeight& weight, Precision precision,
                                    std::span<const float> x) {
  if (precision == Precision::kF32 && weight.activation == ActivationFormat::kBf16) {
    return {x.begin(), x.end()};
  }
  std::vector<uint16_t> row(x.size());
  f32_to_bf16(x, row);
  std::vector<double> result;
  double factor = 1;
  switch (weight.activation) {
    case ActivationFormat::kNvfp4:
      reference::round_to_nvfp4_bf16(row, weight.input_scale);
      factor = static_cast<double>(weight.input_scale);
      break;
    case ActivationFormat::kMxfp4:
      reference::round_to_mxfp4_bf16(row);
      break;
    case ActivationFormat::kFp8Dynamic:
    case ActivationFormat::kFp8Block: {
      const size_t step = weight.activation == ActivationFormat::kFp8Block ? 128 : row.size();
      for (size_t first = 0; first < row.size(); first += step) {
        const size_t end = std::min(row.size(), first + step);
        float amax = 0;
        for (size_t i = first; i < end; ++i) {
          amax = std::max(amax, std::abs(pare::bf16_to_f32(row[i])));
        }
        const float scale = amax / 448.0F;
        for (size_t i = first; i < end; ++i) {
          const uint8_t code = f32_to_e4m3(pare::bf16_to_f32(row[i]) * (1.0F / scale));
          result.push_back(static_cast<double>(e4m3_to_f32(code)) * static_cast<double>(scale));
        }
      }
      return result;
    }
    default:
      break;
  }
  for (const uint16_t value : row) {
    result.push_back(static_cast<double>(pare::bf16_to_f32(value)) * factor);
  }
  return result;
}

void expect_plain_sums(WeightFormat format, ActivationFormat activation) {
  const CompressedWeight weight = random_weight(format, activation);
  std::vector<float> values(static_cast<size_t>(kOut * kIn));
  reference::dequantize_rows(weight, 0, kOut, values);
  const std::vector<float> bias = random_values(kOut, 0.1F);
  for (const Precision precision : {Precision::kBf16, Precision::kF32}) {
    const Linear linear = Linear::compressed(weight, bias, precision);
    for (const int64_t rows : {37, 1}) {
      const std::vector<float> x = random_values(rows * kIn, 1);
      LinearInput input;
      std::vector<float> y(static_cast<size_t>(padded_rows(rows) * kOut));
      linear.prepare(x.data(), rows, input);
      linear.multiply(input, y.data());
      for (int64_t row = 0; row < rows; ++row) {
        const std::vector<double> wanted = quantized_input(
            weight, precision, std::span(x).subspan(static_cast<size_t>(row * kIn), kIn));
        for (int64_t column = 0; column < kOut; ++column) {
          double sum = static_cast<double>(bias[static_cast<size_t>(column)]);
          double magnitude = std::abs(sum);
          for (int64_t i = 0; i < kIn; ++i) {
            const double product =
                wanted[static_cast<size_t>(i)] *
                static_cast<double>(values[static_cast<size_t>(column * kIn + i)]);
            sum += product;
            magnitude += std::abs(product);
          }
          ASSERT_NEAR(y[static_cast<size_t>(row * kOut + column)], sum, 0x1p-20 * magnitude)
              << "row " << row << " of " << rows << ", column " << column << ", precision "
              << static_cast<int>(precision) << ", seed " << kSeed;
        }
      }
    }
  }
}

TEST(LinearFormats, Fp8PerChannelAndToken) {
  expect_plain_sums(WeightFormat::kFp8E4m3, ActivationFormat::kFp8Dynamic);
}
TEST(LinearFormats, Fp8InBlocks) {
  expect_plain_sums(WeightFormat::kFp8E4m3, ActivationFormat::kFp8Block);
}
TEST(LinearFormats, Nvfp4) {
  expect_plain_sums(WeightFormat::kNvfp4, ActivationFormat::kNvfp4);
  expect_plain_sums(WeightFormat::kNvfp4, ActivationFormat::kBf16);
}
TEST(LinearFormats, Mxfp4) {
  expect_plain_sums(WeightFormat::kMxfp4, ActivationFormat::kMxfp4);
  expect_plain_sums(WeightFormat::kMxfp4, ActivationFormat::kBf16);
}

// A token's numbers must not depend on the others.
TEST(LinearFormats, RowsDoNotDependOnEachOther) {
  for (const auto& [format, activation] :
       {std::pair{WeightFormat::kFp8E4m3, ActivationFormat::kFp8Dynamic},
        std::pair{WeightFormat::kFp8E4m3, ActivationFormat::kFp8Block},
        std::pair{WeightFormat::kNvfp4, ActivationFormat::kNvfp4},
        std::pair{WeightFormat::kMxfp4, ActivationFormat::kMxfp4}}) {
    const Linear linear =
        Linear::compressed(random_weight(format, activation), {}, Precision::kBf16);
    std::vector<float> x = random_values(20 * kIn, 1);
    const auto last_row = [&] {
      LinearInput input;
      std::vector<float> y(static_cast<size_t>(padded_rows(20) * kOut));
      linear.prepare(x.data(), 20, input);
      linear.multiply(input, y.data());
      return std::vector<float>(y.begin() + 19 * kOut, y.begin() + 20 * kOut);
    };
    const std::vector<float> before = last_row();
    for (int64_t i = 0; i < 19 * kIn; ++i) x[static_cast<size_t>(i)] *= 1000;
    EXPECT_EQ(last_row(), before);
  }
}

TEST(LinearFormats, ZerosStayZerosAndNanIsRefused) {
  for (const auto& [format, activation] :
       {std::pair{WeightFormat::kFp8E4m3, ActivationFormat::kFp8Dynamic},
        std::pair{WeightFormat::kFp8E4m3, ActivationFormat::kFp8Block},
        std::pair{WeightFormat::kNvfp4, ActivationFormat::kNvfp4},
        std::pair{WeightFormat::kMxfp4, ActivationFormat::kMxfp4}}) {
    const Linear linear =
        Linear::compressed(random_weight(format, activation), {}, Precision::kBf16);
    std::vector<float> x(kIn, 0.0F);
    LinearInput input;
    std::vector<float> y(static_cast<size_t>(padded_rows(1) * kOut));
    linear.prepare(x.data(), 1, input);
    linear.multiply(input, y.data());
    EXPECT_TRUE(std::all_of(y.begin(), y.begin() + kOut, [](float value) { return value == 0; }));
    x[kIn - 1] = std::nanf("");
    EXPECT_THROW(linear.prepare(x.data(), 1, input), Error);
  }
}

TEST(LinearFormats, AnInputInBlocksNeedsAWeightInBlocks) {
  CompressedWeight weight = random_weight(WeightFormat::kFp8E4m3, ActivationFormat::kFp8Dynamic);
  weight.activation = ActivationFormat::kFp8Block;
  EXPECT_THROW(Linear::compressed(weight, {}, Precision::kBf16), Error);
}

}  // namespace
}  // namespace pare
