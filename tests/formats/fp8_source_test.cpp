// FP8 weights in blocks: values against the plain formula, parts, memory, and what can be wrong.
#include "formats/fp8_source.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "formats/decoding_source.h"
#include "formats/weight_source.h"
#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

constexpr const char* kConfig =
    R"({"model_type": "deepseek_v3", "rms_norm_eps": 1e-06, "quantization_config":
        {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [4, 8]}})";

/// E4M3 by its definition: (-1)^s · 2^(e - 7) · (1 + m / 8), or 2^-6 · m / 8 where e is 0.
double e4m3_value(uint8_t code) {
  const int exponent = (code >> 3) & 15;
  const int mantissa = code & 7;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

Tensor random_codes(std::mt19937& random, const Shape& shape) {
  Tensor codes = random_tensor(random, DType::kF8E4m3, shape);
  for (std::byte& code : codes.bytes) {
    if ((code & std::byte{0x7f}) == std::byte{0x7f}) code = std::byte{0x7e};
  }
  return codes;
}

class Fp8SourceTest : public ::testing::Test {
 protected:
  Fp8SourceTest() {
    SCOPED_TRACE("seed " + std::to_string(seed_));
    // Neither dimension is a multiple of the block's: [4, 8].
    tensors_["m.weight"] = random_codes(random_, {10, 21});
    tensors_["m.weight_scale_inv"] = scales(DType::kF32, {3, 3});
    tensors_["e.gate_up_proj"] = random_codes(random_, {3, 6, 20});
    tensors_["e.gate_up_proj_scale_inv"] = scales(DType::kF32, {3, 2, 3});
    tensors_["q.weight"] = random_codes(random_, {4, 8});
    tensors_["q.weight_scale_inv"] = scales(DType::kBf16, {1, 1});
    tensors_["norm.weight"] = normal_tensor(random_, DType::kBf16, {21});
  }

  Tensor scales(DType dtype, const Shape& shape) {
    std::uniform_real_distribution<float> value(1e-4F, 2e-2F);
    std::vector<float> values(static_cast<size_t>(element_count(shape)));
    for (float& scale : values) scale = value(random_);
    return float_tensor(dtype, shape, values);
  }

  std::unique_ptr<WeightSource> open(const std::string& config = kConfig) {
    write_model(folder_, config, tensors_);
    return open_weight_source(folder_.path());
  }
  void expect_refused(const std::vector<std::string>& parts, const std::string& config = kConfig) {
    expect_error([&] { open(config); }, ErrorCode::kInputMalformed, parts);
  }

  /// The formula in double precision. A product of four and 24 bits rounds to FP32 first.
  std::vector<float> expected(const std::string& name, int64_t block_rows, int64_t block_columns) {
    const Tensor& codes = tensors_.at(name);
    const Tensor& scale_tensor = tensors_.at(name + "_scale_inv");
    const std::vector<float> scale = to_f32(scale_tensor.view(), "scale");
    const int64_t columns = codes.shape.back();
    const int64_t rows = codes.shape[codes.shape.size() - 2];
    const int64_t scale_columns = scale_tensor.shape.back();
    const int64_t scale_rows = scale_tensor.shape[codes.shape.size() - 2];
    std::vector<float> values(codes.bytes.size());
    for (size_t i = 0; i < values.size(); ++i) {
      const auto at = static_cast<int64_t>(i);
      const int64_t matrix = at / (rows * columns);
      const int64_t row = at / columns % rows;
      const int64_t column = at % columns;
      const int64_t place =
          (matrix * scale_rows + row / block_rows) * scale_columns + column / block_columns;
      const double product = e4m3_value(static_cast<uint8_t>(codes.bytes[i])) *
                             static_cast<double>(scale[static_cast<size_t>(place)]);
      values[i] = round_to_bf16(static_cast<float>(product));
    }
    return values;
  }

  uint32_t seed_ = std::random_device{}();
  std::mt19937 random_{seed_};
  TempFolder folder_;
  std::map<std::string, Tensor> tensors_;
};

TEST_F(Fp8SourceTest, DecodesByTheFormula) {
  SCOPED_TRACE("seed " + std::to_string(seed_));
  const auto source = open();
  EXPECT_EQ(source->names(),
            (std::vector<std::string>{"e.gate_up_proj", "m.weight", "norm.weight", "q.weight"}));
  for (const char* name : {"m.weight", "e.gate_up_proj", "q.weight"}) {
    const TensorView view = source->dense(name);
    EXPECT_EQ(view.dtype, DType::kBf16) << name;
    EXPECT_EQ(source->dtype(name), DType::kBf16) << name;
    EXPECT_EQ(view.shape, tensors_.at(name).shape) << name;
    EXPECT_EQ(to_f32(view, name), expected(name, 4, 8)) << name;
    source->release({name});
    EXPECT_EQ(to_f32(source->dense(name), name), expected(name, 4, 8)) << name;
  }
  EXPECT_TRUE(
      std::ranges::equal(source->dense("norm.weight").bytes, tensors_.at("norm.weight").bytes));
}

TEST_F(Fp8SourceTest, EveryCodeOfE4m3) {
  std::vector<uint8_t> codes;
  for (int code = 0; code < 256; ++code) {
    if ((code & 0x7f) != 0x7f) codes.push_back(static_cast<uint8_t>(code));
  }
  const auto count = static_cast<int64_t>(codes.size());
  tensors_.clear();
  for (const float scale : {1.0F, 0.3F, -2.5F, 0x1p-120F, 7e35F}) {
    tensors_["m.weight"] = byte_tensor(DType::kF8E4m3, {1, count}, codes);
    tensors_["m.weight_scale_inv"] =
        float_tensor(DType::kF32, {1, (count + 7) / 8},
                     std::vector<float>(static_cast<size_t>((count + 7) / 8), scale));
    EXPECT_EQ(to_f32(open()->dense("m.weight"), "m"), expected("m.weight", 4, 8)) << scale;
  }
}

TEST_F(Fp8SourceTest, BlocksAreWhatTheConfigSays) {
  SCOPED_TRACE("seed " + std::to_string(seed_));
  tensors_.erase("e.gate_up_proj");
  tensors_.erase("e.gate_up_proj_scale_inv");
  tensors_["m.weight_scale_inv"] = scales(DType::kF32, {1, 11});
  tensors_["q.weight_scale_inv"] = scales(DType::kF32, {1, 4});
  const auto source = open(R"({"quantization_config": {"quant_method": "fp8",
                               "activation_scheme": "dynamic", "weight_block_size": [128, 2]}})");
  EXPECT_EQ(to_f32(source->dense("m.weight"), "m"), expected("m.weight", 128, 2));
}

TEST_F(Fp8SourceTest, PartsAreThoseOfTheWhole) {
  SCOPED_TRACE("seed " + std::to_string(seed_));
  const auto source = open();
  for (const char* name : {"m.weight", "e.gate_up_proj", "norm.weight"}) {
    const int64_t total = element_count(source->shape(name));
    const std::vector<float> whole = to_f32(source->dense(name), name);
    for (int trial = 0; trial < 50; ++trial) {
      const int64_t first = std::uniform_int_distribution<int64_t>(0, total)(random_);
      const int64_t count = std::uniform_int_distribution<int64_t>(0, total - first)(random_);
      const TensorView part = source->dense_part(name, first, count);
      EXPECT_EQ(part.shape, Shape{count});
      const std::vector<float> expected_part(whole.begin() + first, whole.begin() + first + count);
      EXPECT_EQ(to_f32(part, name), expected_part) << name << " " << first << " " << count;
      std::vector<std::byte> copy(static_cast<size_t>(2 * count));
      source->read(name, first, copy);
      EXPECT_TRUE(std::ranges::equal(copy, part.bytes));
      source->release_part(name, first, count);
    }
    expect_error([&] { source->dense_part(name, total, 1); }, ErrorCode::kInternal, {name});
    expect_error([&] { source->dense_part(name, -1, 1); }, ErrorCode::kInternal, {name});
    std::vector<std::byte> odd(3);
    expect_error([&] { source->read(name, 0, odd); }, ErrorCode::kInternal, {name});
  }
}

TEST_F(Fp8SourceTest, KeepsNothingAfterRelease) {
  write_model(folder_, R"({"model_type": "x"})", tensors_);
  const auto source = make_fp8_source(open_weight_source(folder_.path()), {4, 8});
  const auto& decoding = dynamic_cast<const DecodingSource&>(*source);
  EXPECT_EQ(decoding.decoded_bytes(), 0);
  for (const std::string& name : source->names()) source->dense(name);
  source->dense_part("e.gate_up_proj", 120, 120);
  EXPECT_EQ(decoding.decoded_bytes(), 2 * (10 * 21 + 3 * 6 * 20 + 4 * 8 + 120));
  source->release_part("e.gate_up_proj", 120, 120);
  EXPECT_EQ(decoding.decoded_bytes(), 2 * (10 * 21 + 3 * 6 * 20 + 4 * 8));
  source->release(source->names());
  EXPECT_EQ(decoding.decoded_bytes(), 0);
  std::vector<std::byte> piece(40);
  source->read("m.weight", 7, piece);
  EXPECT_EQ(decoding.decoded_bytes(), 0);
}

TEST_F(Fp8SourceTest, BytesAndDigestAreTheStoredOnes) {
  const auto source = open();
  EXPECT_EQ(source->stored_bytes("m.weight"), 10 * 21 + 9 * 4);
  EXPECT_EQ(source->stored_bytes("norm.weight"), 42);
  EXPECT_EQ(source->stored_bytes(), 210 + 36 + 360 + 72 + 32 + 2 + 42);
  EXPECT_EQ(source->file_of("m.weight"), folder_ / "model.safetensors");
  EXPECT_FALSE(source->contains("m.weight_scale_inv"));
  EXPECT_FALSE(source->is_compressed("m.weight"));
  const std::string before = source->sha256();
  tensors_["m.weight_scale_inv"].bytes[0] ^= std::byte{1};
  EXPECT_NE(open()->sha256(), before);
}

TEST_F(Fp8SourceTest, TheConfigSaysNothingOfTheQuantization) {
  const auto config = nlohmann::json::parse(open()->config_json());
  EXPECT_FALSE(config.contains("quantization_config"));
  EXPECT_EQ(config.at("model_type"), "deepseek_v3");
  EXPECT_EQ(config.at("rms_norm_eps"), 1e-6);
  tensors_.erase("e.gate_up_proj_scale_inv");  // Nobody asks for scales without the key.
  EXPECT_EQ(open(R"({"quantization_config": null})")->config_json(),
            R"({"quantization_config": null})");
}

TEST_F(Fp8SourceTest, ScalesAndWeightsBelongTogether) {
  const auto good = tensors_;
  tensors_.erase("m.weight_scale_inv");
  expect_refused({"\"m.weight\"", "\"m.weight_scale_inv\"", "model.safetensors", "not there"});
  tensors_ = good;
  tensors_.erase("m.weight");
  expect_refused({"\"m.weight\"", "\"m.weight_scale_inv\""});
  tensors_ = good;
  tensors_["m.weight"] = normal_tensor(random_, DType::kBf16, {10, 21});
  expect_refused({"\"m.weight\"", "\"m.weight_scale_inv\"", "bfloat16", "float8_e4m3fn"});
  tensors_ = good;
  for (const Shape& shape : {Shape{3, 2}, Shape{4, 3}, Shape{9}, Shape{1, 3, 3}, Shape{}}) {
    tensors_["m.weight_scale_inv"] = scales(DType::kF32, shape);
    expect_refused({"\"m.weight\"", "\"m.weight_scale_inv\"", shape_text(shape), "[3, 3]"});
  }
  tensors_ = good;
  tensors_["m.weight_scale_inv"] = random_tensor(random_, DType::kU8, {3, 3});
  expect_refused({"\"m.weight\"", "\"m.weight_scale_inv\"", "uint8"});
  tensors_ = good;
  tensors_["m.weight"] = random_codes(random_, {210});
  expect_refused({"\"m.weight\"", "\"m.weight_scale_inv\"", "[210]"});
}

TEST_F(Fp8SourceTest, NumbersThatAreNotFiniteAreNamed) {
  const auto good = tensors_;
  for (const uint8_t nan : {uint8_t{0x7f}, uint8_t{0xff}}) {
    tensors_ = good;
    tensors_["m.weight"].bytes[100] = static_cast<std::byte>(nan);
    const auto source = open();
    expect_error([&] { source->dense("m.weight"); }, ErrorCode::kNonFinite,
                 {"\"m.weight\"", "model.safetensors", "NaN"});
    EXPECT_EQ(source->dense("q.weight").shape, (Shape{4, 8}));
    EXPECT_EQ(source->dense_part("m.weight", 0, 100).shape, Shape{100});
  }
  for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    tensors_ = good;
    std::memcpy(tensors_["m.weight_scale_inv"].bytes.data() + 4 * 8, &bad, 4);
    const auto source = open();
    expect_error([&] { source->dense("m.weight"); }, ErrorCode::kNonFinite,
                 {"\"m.weight\"", "\"m.weight_scale_inv\""});
  }
  tensors_ = good;
  const float large = 3e38F;
  std::memcpy(tensors_["m.weight_scale_inv"].bytes.data(), &large, 4);
  tensors_["m.weight"].bytes[0] = std::byte{0x40};  // 2
  const auto source = open();
  expect_error([&] { source->dense("m.weight"); }, ErrorCode::kNonFinite,
               {"\"m.weight\"", "\"m.weight_scale_inv\"", "bfloat16"});
}

TEST_F(Fp8SourceTest, OtherQuantizationsAreRefusedByName) {
  const auto with = [](const std::string& config) {
    return "{\"quantization_config\": " + config + "}";
  };
  expect_refused({"bitsandbytes", "give the original"},
                 with(R"({"quant_method": "bitsandbytes", "bits": 4})"));
  expect_refused({"no tensor ends with", ".qweight"},
                 with(R"({"quant_method": "gptq", "bits": 4})"));
  expect_refused({"config_groups is missing"}, with(R"({"quant_method": "compressed-tensors"})"));
  expect_refused({"quant_method missing"}, with(R"({"load_in_8bit": true})"));
  expect_refused({"weight_block_size missing"}, with(R"({"quant_method": "fp8"})"));
  for (const char* blocks : {"null", "[128]", "[128, 0]", "[128, -1]", "[1.5, 2]", "128",
                             "[128, 128, 128]", "[\"128\", 128]", "[1e30, 1]"}) {
    expect_refused(
        {"weight_block_size"},
        with(std::string(R"({"quant_method": "fp8", "weight_block_size": )") + blocks + "}"));
  }
  expect_refused({"e5m2"}, with(R"({"quant_method": "fp8", "fmt": "e5m2",
                                    "weight_block_size": [4, 8]})"));
  expect_refused({"quantization_config"}, with("3"));
}

}  // namespace
}  // namespace pare::test
