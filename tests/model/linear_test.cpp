// Every kind of compressed linear against plain arithmetic on its codes.
#include "model/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <random>

#include "core/dtype.h"
#include "kernels/codec.h"
#include "pare/error.h"

namespace pare {
namespace {

constexpr uint32_t kSeed = 20240611;
constexpr int64_t kOut = 21;
constexpr int64_t kIn = 72;
constexpr int64_t kGroup = 32;  // the last group of a row has 8 channels

// A layer with its weight written out one code after another.
struct Layer {
  CompressedWeight weight;
  std::vector<double> code;   // [out, in], zero where pruned, zero point subtracted
  std::vector<double> scale;  // [out, in]
  std::vector<float> bias;    // [out]
};

struct Kind {
  WeightFormat format = WeightFormat::kBf16;
  ActivationFormat activation = ActivationFormat::kBf16;
  int64_t group_size = kPerTensor;
  bool symmetric = true;
  bool sparse = false;
  bool pre_quant_scale = false;
  Precision precision = Precision::kBf16;

  bool integer() const {
    return format == WeightFormat::kInt8 && (activation == ActivationFormat::kInt8Static ||
                                             activation == ActivationFormat::kInt8Dynamic);
  }
  std::string text() const {
    return "format " + std::to_string(static_cast<int>(format)) + ", activation " +
           std::to_string(static_cast<int>(activation)) + ", group " + std::to_string(group_size) +
           (symmetric ? "" : ", zero points") + (sparse ? ", 2:4" : "") +
           (pre_quant_scale ? ", input scales" : "") +
           (precision == Precision::kBf16  ? ", bf16"
            : precision == Precision::kF32 ? ", fp32"
                                           : ", bf16 pairs") +
           ", seed " + std::to_string(kSeed);
  }
};

// Two of each four, at random.
std::vector<uint8_t> random_mask(std::mt19937& random) {
  std::vector<uint8_t> keep(static_cast<size_t>(kOut * kIn));
  for (size_t i = 0; i < keep.size(); i += 4) {
    std::array<uint8_t, 4> group = {1, 1, 0, 0};
    for (size_t k = 4; k > 1; --k) std::swap(group[k - 1], group[random() % k]);
    std::copy(group.begin(), group.end(), keep.begin() + static_cast<ptrdiff_t>(i));
  }
  return keep;
}

int8_t random_code(WeightFormat format, bool symmetric, std::mt19937& random) {
  switch (format) {
    case WeightFormat::kInt4:
      return static_cast<int8_t>(static_cast<int>(random() % 16) - (symmetric ? 8 : 0));
    case WeightFormat::kFp8E4m3: {
      const auto bits = static_cast<uint8_t>(random() % 256);
      return static_cast<int8_t>((bits & 0x7f) == 0x7f ? bits & 0xbf : bits);  // no NaN
    }
    default:
      return static_cast<int8_t>(static_cast<int>(random() % 255) - 127);
  }
}

Layer random_layer(const Kind& kind) {
  std::mt19937 random(kSeed);
  std::uniform_real_distribution<float> size(0.5F, 2);
  std::normal_distribution<float> normal;
  Layer layer;
  CompressedWeight& weight = layer.weight;
  weight.format = kind.format;
  weight.activation = kind.activation;
  weight.out_features = kOut;
  weight.in_features = kIn;
  weight.group_size = kind.group_size;
  weight.symmetric = kind.symmetric;
  weight.sparse = kind.sparse;
  if (kind.activation == ActivationFormat::kFp8Static) weight.input_scale = 0.011F;
  if (kind.activation == ActivationFormat::kInt8Static) weight.input_scale = 0.023F;
  if (kind.pre_quant_scale) {
    for (int64_t i = 0; i < kIn; ++i) weight.pre_quant_scale.push_back(size(random));
  }
  std::vector<uint8_t> keep;
  if (kind.sparse) keep = random_mask(random);
  const auto kept = [&](size_t i) { return keep.empty() || keep[i] != 0; };
  const auto elements = static_cast<size_t>(kOut * kIn);
  if (kind.format == WeightFormat::kBf16) {
    std::vector<uint16_t> values(elements);
    for (size_t i = 0; i < elements; ++i) {
      values[i] = kept(i) ? f32_to_bf16(normal(random)) : uint16_t{0};
      layer.code.push_back(static_cast<double>(bf16_to_f32(values[i])));
    }
    layer.scale.assign(elements, 1);
    pack_bf16_weight(values, keep, weight);
  } else {
    const int64_t scales = kind.group_size == kPerTensor ? 1 : kOut * weight.groups();
    for (int64_t i = 0; i < scales; ++i) {
      weight.scale.push_back(0.01F * size(random));
      if (!kind.symmetric) weight.zero_point.push_back(static_cast<uint8_t>(random() % 16));
    }
    std::vector<int8_t> codes(elements);
    for (size_t i = 0; i < elements; ++i) {
      if (kept(i)) codes[i] = random_code(kind.format, kind.symmetric, random);
      const auto row = static_cast<int64_t>(i) / kIn;
      const auto column = static_cast<int64_t>(i) % kIn;
      const auto at = static_cast<size_t>(
          kind.group_size == kPerTensor
              ? 0
              : row * weight.groups() + (kind.group_size > 0 ? column / kind.group_size : 0));
      const double value = kind.format == WeightFormat::kFp8E4m3
                               ? static_cast<double>(e4m3_to_f32(static_cast<uint8_t>(codes[i])))
                               : static_cast<double>(codes[i]);
      const double zero = kind.symmetric ? 0.0 : static_cast<double>(weight.zero_point[at]);
      layer.code.push_back(kept(i) ? value - zero : 0.0);
      layer.scale.push_back(static_cast<double>(weight.scale[at]));
    }
    pack_codes(codes, keep, weight);
  }
  validate(weight, "test");
  for (int64_t i = 0; i < kOut; ++i) layer.bias.push_back(normal(random));
  return layer;
}

// An input row as the engine multiplies it: value × scale.
struct QuantizedRow {
  std::vector<double> value;
  double scale = 1;
};

QuantizedRow quantize_input(const Kind& kind, const CompressedWeight& weight, const float* x) {
  std::vector<float> row(x, x + kIn);
  for (size_t i = 0; i < weight.pre_quant_scale.size(); ++i) row[i] *= weight.pre_quant_scale[i];
  const bool quantized = kind.activation != ActivationFormat::kBf16;
  for (float& value : row) {
    const float high = round_to_bf16(value);
    if (quantized || kind.precision == Precision::kBf16) {
      value = high;
    } else if (kind.precision == Precision::kBf16Pairs) {
      value = high + round_to_bf16(value - high);  // 16 bits: exact
    }
  }
  float scale = 1;
  if (quantized) scale = weight.input_scale;
  if (kind.activation == ActivationFormat::kInt8Dynamic) {
    scale = 0;
    for (const float value : row) scale = std::max(scale, std::abs(value) / 127.0F);
  }
  QuantizedRow result;
  result.scale = static_cast<double>(scale);
  for (const float value : row) {
    const float code = value * (1.0F / scale);
    if (!quantized) {
      result.value.push_back(static_cast<double>(value));
    } else if (kind.activation == ActivationFormat::kFp8Static) {
      result.value.push_back(static_cast<double>(e4m3_to_f32(f32_to_e4m3(code))));
    } else {
      result.value.push_back(
          static_cast<double>(std::nearbyint(std::clamp(code, -127.0F, 127.0F))));
    }
  }
  return result;
}

// The value that multiplies, and the scale that follows the product.
double multiplied_weight(const Kind& kind, const Layer& layer, size_t i) {
  if (kind.integer() || kind.format == WeightFormat::kFp8E4m3) return layer.code[i];
  const auto value = static_cast<float>(layer.code[i]) * static_cast<float>(layer.scale[i]);
  return static_cast<double>(kind.precision == Precision::kF32 ? value : round_to_bf16(value));
}

double following_scale(const Kind& kind, const Layer& layer, int64_t row) {
  if (!kind.integer() && kind.format != WeightFormat::kFp8E4m3) return 1;
  return layer.scale[static_cast<size_t>(row * kIn)];
}

void expect_plain_arithmetic(const Kind& kind) {
  const Layer layer = random_layer(kind);
  const Linear linear = Linear::compressed(layer.weight, layer.bias, kind.precision);
  ASSERT_EQ(linear.out_features(), kOut);
  ASSERT_EQ(linear.in_features(), kIn);
  LinearInput input;
  for (const int64_t rows : {40, 1}) {
    std::mt19937 random(kSeed + 1);
    std::normal_distribution<float> normal;
    std::vector<float> x(static_cast<size_t>(rows * kIn));
    for (float& value : x) value = normal(random);
    x[0] = 30;  // beyond the range of the static scales
    std::vector<float> y(static_cast<size_t>(padded_rows(rows) * kOut), NAN);
    linear.prepare(x.data(), rows, input);
    linear.multiply(input, y.data());
    for (int64_t row = 0; row < rows; ++row) {
      const QuantizedRow quantized = quantize_input(kind, layer.weight, x.data() + row * kIn);
      for (int64_t column = 0; column < kOut; ++column) {
        double sum = 0;
        double magnitude = 0;
        for (int64_t i = 0; i < kIn; ++i) {
          const double product =
              quantized.value[static_cast<size_t>(i)] *
              multiplied_weight(kind, layer, static_cast<size_t>(column * kIn + i));
          sum += product;
          magnitude += std::abs(product);
        }
        const double scale = quantized.scale * following_scale(kind, layer, column);
        const double bias = static_cast<double>(layer.bias[static_cast<size_t>(column)]);
        // An exact integer sum leaves the roundings of conversion, scales and bias.
        const double terms = kind.integer() && kind.precision != Precision::kF32 ? 0 : kIn;
        const double bound =
            0x1p-24 * (terms * magnitude * scale + 5 * (std::abs(sum * scale) + std::abs(bias)));
        ASSERT_NEAR(y[static_cast<size_t>(row * kOut + column)], sum * scale + bias, bound)
            << kind.text() << ", row " << row << " of " << rows << ", column " << column;
      }
    }
  }
}

// Calls test(kind) for all combinations that make sense.
template <typename Test>
void for_each_kind(WeightFormat format, Test test) {
  for (const auto activation : {ActivationFormat::kBf16, ActivationFormat::kFp8Static,
                                ActivationFormat::kInt8Static, ActivationFormat::kInt8Dynamic}) {
    for (const int64_t group : {kPerTensor, kPerChannel, kGroup}) {
      for (int flags = 0; flags < 24; ++flags) {
        Kind kind{.format = format, .activation = activation, .group_size = group};
        kind.sparse = (flags & 1) != 0;
        kind.pre_quant_scale = (flags & 2) != 0;
        kind.symmetric = (flags & 4) == 0;
        kind.precision = static_cast<Precision>(flags / 8);
        const bool grouped_after =
            group > 0 && (format == WeightFormat::kFp8E4m3 || kind.integer());
        if (grouped_after || (!kind.symmetric && format != WeightFormat::kInt4)) continue;
        if (format == WeightFormat::kBf16 && group != kPerTensor) continue;
        test(kind);
        if (::testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(Linear, Bf16Weights) { for_each_kind(WeightFormat::kBf16, expect_plain_arithmetic); }
TEST(Linear, Fp8Weights) { for_each_kind(WeightFormat::kFp8E4m3, expect_plain_arithmetic); }
TEST(Linear, Int8Weights) { for_each_kind(WeightFormat::kInt8, expect_plain_arithmetic); }
TEST(Linear, Int4Weights) { for_each_kind(WeightFormat::kInt4, expect_plain_arithmetic); }

// 2000 products of 127 × 127 leave the 24 bits of a float: an INT8 layer must sum in integers.
TEST(Linear, Int8SumsAreIntegers) {
  constexpr int64_t kWide = 2001;
  CompressedWeight weight;
  weight.format = WeightFormat::kInt8;
  weight.activation = ActivationFormat::kInt8Static;
  weight.out_features = 1;
  weight.in_features = kWide;
  weight.group_size = kPerChannel;
  weight.scale = {1};
  weight.input_scale = 1;
  std::vector<int8_t> codes(kWide, 127);
  codes.back() = 1;
  pack_codes(codes, {}, weight);
  const Linear linear = Linear::compressed(weight, {}, Precision::kBf16);
  std::vector<float> x(kWide, 127);
  x.back() = 1;
  LinearInput input;
  std::vector<float> y(static_cast<size_t>(padded_rows(1)));
  linear.prepare(x.data(), 1, input);
  linear.multiply(input, y.data());
  EXPECT_EQ(y[0], static_cast<float>(2000 * 127 * 127 + 1));
  EXPECT_EQ(input.sums[0], 2000 * 127 * 127 + 1);
}

TEST(Linear, StaticRangesCountWhatTheyClampAndRefuseNaN) {
  for (const ActivationFormat activation :
       {ActivationFormat::kInt8Static, ActivationFormat::kFp8Static}) {
    const bool fp8 = activation == ActivationFormat::kFp8Static;
    CompressedWeight weight;
    weight.format = fp8 ? WeightFormat::kFp8E4m3 : WeightFormat::kInt8;
    weight.activation = activation;
    weight.out_features = 1;
    weight.in_features = 4;
    weight.group_size = fp8 ? kPerTensor : kPerChannel;
    weight.scale = {1};
    weight.input_scale = 0.5F;
    pack_codes(std::vector<int8_t>(4, 1), {}, weight);
    for (const Precision precision : {Precision::kBf16, Precision::kF32}) {
      const Linear linear = Linear::compressed(weight, {}, precision);
      const float edge = fp8 ? 224 : 63.5F;  // codes 448 and 127
      LinearInput input;
      linear.prepare(std::vector<float>{edge, -edge, 0, 1}.data(), 1, input);
      EXPECT_EQ(input.clamps.clamped, 0);
      linear.prepare(std::vector<float>{2 * edge, -1.25F * edge, edge, -1e30F}.data(), 1, input);
      EXPECT_EQ(input.clamps.clamped, 3);
      EXPECT_EQ(input.clamps.values, 8);
      for (const float bad : {std::nanf(""), HUGE_VALF}) {
        EXPECT_THROW(linear.prepare(std::vector<float>{0, bad, 0, 0}.data(), 1, input), Error);
      }
    }
  }
}

TEST(Linear, DynamicScalesSurviveARowOfZeros) {
  const Layer layer = random_layer({.format = WeightFormat::kInt8,
                                    .activation = ActivationFormat::kInt8Dynamic,
                                    .group_size = kPerChannel});
  const Linear linear = Linear::compressed(layer.weight, layer.bias, Precision::kBf16);
  const std::vector<float> x(static_cast<size_t>(2 * kIn), 0.0F);
  LinearInput input;
  std::vector<float> y(static_cast<size_t>(padded_rows(2) * kOut));
  linear.prepare(x.data(), 2, input);
  linear.multiply(input, y.data());
  for (size_t i = 0; i < static_cast<size_t>(2 * kOut); ++i) EXPECT_EQ(y[i], layer.bias[i % kOut]);
}

TEST(Linear, DenseLayersTakeEveryStoredType) {
  std::mt19937 random(kSeed);
  std::normal_distribution<float> normal;
  std::vector<uint16_t> bits(static_cast<size_t>(kOut * kIn));
  std::vector<float> wide(bits.size());
  for (size_t i = 0; i < bits.size(); ++i) {
    bits[i] = f32_to_bf16(normal(random));
    wide[i] = bf16_to_f32(bits[i]);
  }
  std::vector<float> x(static_cast<size_t>(3 * kIn));
  for (float& value : x) value = normal(random);
  const auto run = [&](const TensorView& view, Precision precision) {
    const Linear linear = Linear::dense(view, "w", {}, precision);
    EXPECT_EQ(linear.input_format(), InputFormat{});
    LinearInput input;
    std::vector<float> y(static_cast<size_t>(padded_rows(3) * kOut));
    linear.prepare(x.data(), 3, input);
    linear.multiply(input, y.data());
    y.resize(static_cast<size_t>(3 * kOut));
    return y;
  };
  const TensorView narrow{DType::kBf16, {kOut, kIn}, std::as_bytes(std::span(bits))};
  const TensorView full{DType::kF32, {kOut, kIn}, std::as_bytes(std::span(wide))};
  for (const Precision precision : {Precision::kBf16, Precision::kF32}) {
    const auto y = run(narrow, precision);
    EXPECT_EQ(run(full, precision), y);
    double expected = 0;
    for (int64_t i = 0; i < kIn; ++i) {
      const float value = x[static_cast<size_t>(i)];
      expected +=
          static_cast<double>(precision == Precision::kBf16 ? round_to_bf16(value) : value) *
          static_cast<double>(wide[static_cast<size_t>(i)]);
    }
    EXPECT_NEAR(y[0], expected, 1e-5);
  }
}

// Layers may share a prepared input exactly when their formats are equal.
TEST(Linear, InputFormatsTellWhatCanBeShared) {
  const auto format = [](const Kind& kind) {
    return Linear::compressed(random_layer(kind).weight, {}, Precision::kBf16).input_format();
  };
  const Kind int8{.format = WeightFormat::kInt8,
                  .activation = ActivationFormat::kInt8Static,
                  .group_size = kPerChannel};
  Kind scaled = int8;
  scaled.pre_quant_scale = true;
  Kind dynamic = int8;
  dynamic.activation = ActivationFormat::kInt8Dynamic;
  Kind int4 = int8;  // the same codes, but not multiplied as integers
  int4.format = WeightFormat::kInt4;
  EXPECT_EQ(format(int8), format(int8));
  EXPECT_FALSE(format(int8) == format(scaled));
  EXPECT_FALSE(format(int8) == format(dynamic));
  EXPECT_FALSE(format(int8) == format(int4));
  EXPECT_EQ(format({.format = WeightFormat::kInt4, .group_size = kGroup}), InputFormat{});
}

TEST(Linear, GroupsOfScalesThatCannotFollowAProductAreRefused) {
  for (const Kind& kind : {Kind{.format = WeightFormat::kFp8E4m3, .group_size = kGroup},
                           Kind{.format = WeightFormat::kInt8,
                           .activation = ActivationFormat::kInt8Dynamic,
                           .group_size = kGroup}}) {
    const Layer layer = random_layer(kind);
    try {
      Linear::compressed(layer.weight, {}, Precision::kBf16);
      ADD_FAILURE() << kind.text();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInputMalformed);
      EXPECT_NE(std::string(error.what()).find("32"), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace pare
