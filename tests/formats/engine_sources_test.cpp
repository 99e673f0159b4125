// Folders of AutoAWQ, GPTQ and Model Optimizer: values by the definitions, and what can be wrong.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "formats/weight_source.h"
#include "kernels/codec.h"
#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

using Json = nlohmann::ordered_json;
using Floats = std::vector<float>;

Tensor int_tensor(const Shape& shape, const std::vector<uint32_t>& words) {
  Tensor tensor{std::vector<std::byte>(words.size() * 4), DType::kI32, shape};
  std::memcpy(tensor.bytes.data(), words.data(), tensor.bytes.size());
  return tensor;
}

class EngineFolder : public ::testing::Test {
 protected:
  std::unique_ptr<WeightSource> open() {
    write_model(folder_, config_.dump(), tensors_);
    return open_weight_source(folder_.path());
  }
  Json& quantization() { return config_["quantization_config"]; }
  void expect_refused(const std::vector<std::string>& parts) {
    expect_error([&] { open()->compressed("m.weight"); }, ErrorCode::kInputMalformed, parts);
  }
  /// Refused for the change, and only for that.
  void expect_refused_with(const std::string& name, const Tensor& tensor,
                           const std::vector<std::string>& parts) {
    const auto whole = tensors_;
    tensors_[name] = tensor;
    expect_refused(parts);
    tensors_ = whole;
  }
  void expect_refused_without(const std::string& name) {
    const auto whole = tensors_;
    tensors_.erase(name);
    expect_refused({name});
    tensors_ = whole;
  }
  static Floats values(const CompressedWeight& weight) {
    Floats out(static_cast<size_t>(weight.out_features * weight.in_features));
    dequantize_rows(weight, 0, weight.out_features, out);
    return out;
  }

  TempFolder folder_;
  Json config_ = {{"model_type", "llama"}};
  std::map<std::string, Tensor> tensors_ = {
      {"norm.weight", float_tensor(DType::kF32, {2}, {1, 2})}};
};

// -- AutoAWQ --------------------------------------------------------------------------------------

class AwqFolder : public EngineFolder {
 protected:
  // Two inputs, eight outputs: channel j has the codes j and 15 - j, and the scale j + 1.
  AwqFolder() {
    quantization() = {{"quant_method", "awq"},
                      {"bits", 4},
                      {"group_size", 2},
                      {"zero_point", true},
                      {"version", "GEMM"}};
    tensors_["m.qweight"] = int_tensor({2, 1}, {0x75316420, 0x8ACE9BDF});
    tensors_["m.qzeros"] = int_tensor({1, 1}, {0x88888888});
    tensors_["m.scales"] = float_tensor(DType::kF16, {1, 8}, {1, 2, 3, 4, 5, 6, 7, 8});
  }
};

TEST_F(AwqFolder, SymmetricCodes) {
  const CompressedWeight weight = open()->compressed("m.weight");
  EXPECT_EQ(weight.format, WeightFormat::kInt4);
  EXPECT_TRUE(weight.symmetric);
  EXPECT_EQ(weight.group_size, kPerChannel);
  const Floats found = values(weight);
  for (size_t j = 0; j < 8; ++j) {
    const auto channel = static_cast<float>(j);
    EXPECT_EQ(found[2 * j], (channel - 8) * (channel + 1));
    EXPECT_EQ(found[2 * j + 1], (15 - channel - 8) * (channel + 1));
  }
  EXPECT_EQ(open()->stored_bytes("m.weight"), 8 + 4 + 16);
}

TEST_F(AwqFolder, ZeroPointsAndGroups) {
  // Each input is a group; the zero points of the second are those of the codes.
  tensors_["m.qzeros"] = int_tensor({2, 1}, {0, 0x75316420});
  tensors_["m.scales"] = float_tensor(DType::kF16, {2, 8}, Floats(16, 2));
  const CompressedWeight weight = open()->compressed("m.weight");
  EXPECT_FALSE(weight.symmetric);
  EXPECT_EQ(weight.group_size, 1);
  const Floats found = values(weight);
  for (size_t j = 0; j < 8; ++j) {
    const auto channel = static_cast<float>(j);
    EXPECT_EQ(found[2 * j], 2 * channel);
    EXPECT_EQ(found[2 * j + 1], 2 * (15 - channel - channel));
  }
}

TEST_F(AwqFolder, WhatDoesNotFitIsNamed) {
  expect_refused_without("m.qzeros");
  expect_refused_without("m.scales");
  expect_refused_with("m.scales", float_tensor(DType::kF16, {3, 8}, Floats(24, 1)),
                      {"m.scales", "do not divide 2"});
  expect_refused_with("m.scales", float_tensor(DType::kF16, {8}, Floats(8, 1)),
                      {"m.scales", "expected a matrix"});
  expect_refused_with("m.scales", float_tensor(DType::kF16, {1, 4}, Floats(4, 1)),
                      {"m.scales", "expected 8"});
  expect_refused_with("m.scales", float_tensor(DType::kF32, {1, 8}, {1, 2, 3, -4, 5, 6, 7, 8}),
                      {"m.weight", "weight_scale holds"});
  expect_refused_with("m.qzeros", int_tensor({1, 2}, {0, 0}), {"m.qzeros", "[1, 2]", "[1, 1]"});
  expect_refused_with("m.qweight", float_tensor(DType::kF32, {2, 1}, {1, 2}),
                      {"m.qweight", "float32", "int32"});
  quantization()["version"] = "gemv";
  expect_refused({"version", "gemv"});
  quantization()["version"] = "gemm";
  quantization()["bits"] = 3;
  expect_refused({"bits", "3"});
  quantization()["bits"] = 4;
  tensors_.erase("m.qweight");
  tensors_["m.weight"] = float_tensor(DType::kF32, {8, 2}, Floats(16, 1));
  expect_refused({"no tensor ends with \".qweight\""});
}

// -- GPTQ -----------------------------------------------------------------------------------------

class GptqFolder : public EngineFolder {
 protected:
  // Sixteen inputs, eight outputs, groups of eight: output n has the code (n + i) % 16 for input i.
  GptqFolder() {
    quantization() = {{"quant_method", "gptq"}, {"bits", 4},   {"group_size", 8},
                      {"desc_act", false},      {"sym", true}, {"checkpoint_format", "gptq"}};
    std::vector<uint32_t> words(16);
    for (uint32_t n = 0; n < 8; ++n) {
      for (uint32_t i = 0; i < 16; ++i) words[i / 8 * 8 + n] |= ((n + i) % 16) << (4 * (i % 8));
    }
    tensors_["m.qweight"] = int_tensor({2, 8}, words);
    tensors_["m.qzeros"] = int_tensor({2, 1}, {0x77777777, 0x77777777});
    tensors_["m.scales"] = float_tensor(DType::kF16, {2, 8}, scales_);
    tensors_["m.g_idx"] = int_tensor({16}, {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1});
  }

  void expect_values(const CompressedWeight& weight, const std::vector<uint32_t>& group_of,
                     float zero) const {
    const Floats found = values(weight);
    for (uint32_t n = 0; n < 8; ++n) {
      for (uint32_t i = 0; i < 16; ++i) {
        const auto code = static_cast<float>((n + i) % 16);
        EXPECT_EQ(found[n * 16 + i], (code - zero) * scales_[group_of[i] * 8 + n]) << n << " " << i;
      }
    }
  }

  Floats scales_ = {1, 2, 3, 4, 5, 6, 7, 8, 0.5F, 0.25F, 2, 1, 4, 8, 16, 32};
  std::vector<uint32_t> in_order_ = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
};

TEST_F(GptqFolder, BothVersions) {
  const CompressedWeight first = open()->compressed("m.weight");
  EXPECT_TRUE(first.symmetric);
  EXPECT_EQ(first.group_size, 8);
  expect_values(first, in_order_, 8);
  tensors_.erase("m.g_idx");
  expect_values(open()->compressed("m.weight"), in_order_, 8);
  quantization()["checkpoint_format"] = "gptq_v2";
  const CompressedWeight second = open()->compressed("m.weight");
  EXPECT_FALSE(second.symmetric);
  expect_values(second, in_order_, 7);
}

TEST_F(GptqFolder, ActOrder) {
  const std::vector<uint32_t> groups = {1, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0, 0, 1};
  tensors_["m.g_idx"] = int_tensor({16}, groups);
  const CompressedWeight weight = open()->compressed("m.weight");
  expect_values(weight, groups, 8);
  EXPECT_EQ(open()->stored_bytes("m.weight"), 64 + 8 + 32 + 64);
}

TEST_F(GptqFolder, EightBitsAndThree) {
  // 0xFF and 0x01 of four inputs a word.
  tensors_["m.qweight"] = int_tensor({2, 8}, std::vector<uint32_t>(16, 0x807F01FF));
  tensors_["m.qzeros"] = int_tensor({1, 2}, {0x7F7F7F7F, 0x7F7F7F7F});
  tensors_["m.scales"] = float_tensor(DType::kF16, {1, 8}, Floats(8, 1));
  tensors_["m.g_idx"] = int_tensor({8}, std::vector<uint32_t>(8, 0));
  const CompressedWeight eight = open()->compressed("m.weight");
  EXPECT_EQ(eight.format, WeightFormat::kInt8);
  EXPECT_EQ(values(eight)[0], 127);
  EXPECT_EQ(values(eight)[1], -127);
  EXPECT_EQ(values(eight)[2], -1);
  EXPECT_EQ(values(eight)[3], 0);
  tensors_["m.qzeros"] = int_tensor({1, 2}, {0x7F7F7F7E, 0x7F7F7F7F});
  expect_refused({"\"m\"", "128"});

  // 32 inputs of three bits are three words: code 10 is 7, code 21 is 5, the others 0.
  std::vector<uint32_t> words;
  for (const uint32_t word : {0xC0000000U, 0x80000001U, 0x00000002U}) {
    words.insert(words.end(), 32, word);
  }
  tensors_["m.qweight"] = int_tensor({3, 32}, words);
  tensors_["m.qzeros"] = int_tensor({1, 3}, {0x6DB6DB6D, 0xDB6DB6DB, 0xB6DB6DB6});  // 6, less one
  tensors_["m.scales"] = float_tensor(DType::kF16, {1, 32}, Floats(32, 2));
  tensors_["m.g_idx"] = int_tensor({32}, std::vector<uint32_t>(32, 0));
  const Floats three = values(open()->compressed("m.weight"));
  EXPECT_EQ(three[0], -2 * 6);
  EXPECT_EQ(three[10], 2 * (7 - 6));
  EXPECT_EQ(three[21], 2 * (5 - 6));
}

TEST_F(GptqFolder, WhatDoesNotFitIsNamed) {
  expect_refused_without("m.qzeros");
  expect_refused_without("m.scales");
  expect_refused_with("m.qzeros", int_tensor({2, 1}, {0x77777777, 0x777777F7}),
                      {"m.qzeros", "15", "16 with others"});
  expect_refused_with("m.g_idx", int_tensor({16}, std::vector<uint32_t>(16, 2)),
                      {"m.g_idx", "group 2 of 2"});
  expect_refused_with("m.g_idx", int_tensor({5}, {0, 0, 0, 0, 0}), {"m.qweight", "5 input"});
  expect_refused_with("m.g_idx", int_tensor({12}, std::vector<uint32_t>(12, 0)),
                      {"m.qweight", "12 input"});
  expect_refused_with("m.qweight", int_tensor({2, 4}, std::vector<uint32_t>(8, 0)),
                      {"m.qweight", "4 columns"});
  expect_refused_with("m.scales", float_tensor(DType::kF32, {2, 7}, Floats(14, 1)), {"m.scales"});
  quantization()["bits"] = 5;
  expect_refused({"bits", "5"});
  quantization()["bits"] = 4;
  quantization()["checkpoint_format"] = "marlin";
  expect_refused({"checkpoint_format", "marlin"});
}

// -- Model Optimizer ------------------------------------------------------------------------------

class ModeloptFolder : public EngineFolder {
 protected:
  ModeloptFolder() {
    quantization() = {{"quant_algo", "FP8"}, {"quant_method", "modelopt"}, {"ignore", {"lm_head"}}};
    tensors_["m.weight"] = byte_tensor(DType::kF8E4m3, {2, 2}, {0x38, 0xB8, 0x30, 0x7E});
    tensors_["m.weight_scale"] = float_tensor(DType::kF32, {}, {0.5F});
    tensors_["m.input_scale"] = float_tensor(DType::kF32, {}, {0.25F});
  }
};

TEST_F(ModeloptFolder, Fp8) {
  const CompressedWeight weight = open()->compressed("m.weight");
  EXPECT_EQ(weight.activation, ActivationFormat::kFp8Static);
  EXPECT_EQ(weight.input_scale, 0.25F);
  EXPECT_EQ(values(weight), (Floats{0.5F, -0.5F, 0.25F, 224}));
  // The configuration of old folders stands beside config.json.
  const Json before = {{"producer", {{"name", "modelopt"}}},
                       {"quantization", {{"quant_algo", "FP8"}, {"kv_cache_quant_algo", nullptr}}}};
  config_.erase("quantization_config");
  write_file(folder_ / "hf_quant_config.json", before.dump());
  EXPECT_EQ(values(open()->compressed("m.weight")), values(weight));
}

TEST_F(ModeloptFolder, Int4PairsOutputs) {
  quantization() = {{"quant_algo", "W4A16_AWQ"}, {"group_size", 4}, {"quant_method", "modelopt"}};
  tensors_.erase("m.input_scale");
  tensors_["m.weight"] = byte_tensor(DType::kU8, {1, 4}, {0x21, 0x3F, 0xE7, 0x08});
  tensors_["m.weight_scale"] = float_tensor(DType::kF32, {2, 1}, {1, 2});
  tensors_["m.pre_quant_scale"] = float_tensor(DType::kBf16, {4}, {1, 2, 3, 4});
  const CompressedWeight weight = open()->compressed("m.weight");
  EXPECT_EQ(values(weight), (Floats{1, -1, 7, -8, 4, 6, -4, 0}));
  EXPECT_EQ(weight.pre_quant_scale, (Floats{1, 2, 3, 4}));
}

TEST_F(ModeloptFolder, EachLayerOfAMixture) {
  quantization() = {{"quant_algo", "MIXED_PRECISION"},
                    {"quantized_layers", {{"m", {{"quant_algo", "W8A16"}}}}},
                    {"quant_method", "modelopt"}};
  tensors_.erase("m.input_scale");
  tensors_["m.weight"] = byte_tensor(DType::kI8, {2, 2}, {1, 0xFF, 127, 0x81});
  tensors_["m.weight_scale"] = float_tensor(DType::kF32, {2}, {1, 0.5F});
  EXPECT_EQ(values(open()->compressed("m.weight")), (Floats{1, -1, 63.5F, -63.5F}));
  quantization()["quantized_layers"] = {{"other", {{"quant_algo", "FP8"}}}};
  expect_refused({"quantized_layers", "\"m\""});
}

TEST_F(ModeloptFolder, TheCacheHasScalesOrNone) {
  quantization()["kv_cache_scheme"] = {{"dynamic", false}, {"num_bits", 8}, {"type", "float"}};
  tensors_["a.k_proj.weight"] = float_tensor(DType::kF32, {1, 1}, {1});
  auto source = open();
  EXPECT_EQ(to_f32(source->dense("a.k_scale"), "a.k_scale"), (Floats{1}));
  EXPECT_EQ(source->dense("a.kv_cache_dtype").bytes.size(), std::strlen("float8_e4m3fn"));
  tensors_["a.k_proj.k_scale"] = float_tensor(DType::kF32, {}, {3});
  expect_refused({"a.v_proj.v_scale"});
  tensors_["a.v_proj.v_scale"] = float_tensor(DType::kF32, {}, {4});
  source = open();
  EXPECT_EQ(to_f32(source->dense("a.v_scale"), "a.v_scale"), (Floats{4}));
  EXPECT_FALSE(source->contains("a.k_proj.k_scale"));
  tensors_["a.k_proj.k_bias"] = float_tensor(DType::kF32, {1}, {3});
  expect_refused({"a.k_proj.k_bias", "offset"});
  quantization()["kv_cache_scheme"] = "NVFP4";
  expect_refused({"NVFP4"});
}

TEST_F(ModeloptFolder, WhatDoesNotFitIsNamed) {
  expect_refused_without("m.input_scale");
  expect_refused_with("m.weight_scale", float_tensor(DType::kF32, {2}, {1, 1}),
                      {"m.weight_scale", "expected 1"});
  expect_refused_with("m.weight_scale", float_tensor(DType::kF32, {}, {0}), {"weight_scale holds"});
  expect_refused_with("m.weight", byte_tensor(DType::kU8, {2, 2}, {1, 2, 3, 4}),
                      {"m.weight", "uint8", "float8_e4m3fn"});
  for (const char* algo : {"NVFP4_SVD", "W4A8_MXFP4_FP8", "FP9"}) {
    quantization()["quant_algo"] = algo;
    expect_refused({"quant_algo", algo});
  }
  quantization()["quant_algo"] = "FP8";
  tensors_.erase("m.weight_scale");
  expect_error([&] { open(); }, ErrorCode::kInputMalformed, {"no tensor ends with"});
}

}  // namespace
}  // namespace pare::test
