// Folders of compressed-tensors: values by the definition, what is hidden, and what can be wrong.
#include "formats/compressed_tensors_source.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "formats/weight_source.h"
#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

using Json = nlohmann::ordered_json;

Tensor int_tensor(const Shape& shape, const std::vector<uint32_t>& words) {
  Tensor tensor{std::vector<std::byte>(words.size() * 4), DType::kI32, shape};
  std::memcpy(tensor.bytes.data(), words.data(), tensor.bytes.size());
  return tensor;
}

Tensor long_tensor(const std::vector<int64_t>& values) {
  Tensor tensor{std::vector<std::byte>(values.size() * 8),
                DType::kI64,
                {static_cast<int64_t>(values.size())}};
  std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
  return tensor;
}

class CompressedTensorsSource : public ::testing::Test {
 protected:
  CompressedTensorsSource() {
    config_ = Json::parse(R"({"model_type": "llama", "quantization_config": {
        "quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": ["lm_head"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights":
          {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 8, "symmetric": true}}}}})");
    // Two rows of -8 … 7 and 7 … -8.
    tensors_["m.weight_packed"] =
        int_tensor({2, 2}, {0x76543210, 0xFEDCBA98, 0x89ABCDEF, 0x01234567});
    tensors_["m.weight_scale"] = float_tensor(DType::kBf16, {2, 2}, {1, 2, 0.5F, 0.25F});
    tensors_["m.weight_shape"] = long_tensor({2, 16});
    tensors_["norm.weight"] = float_tensor(DType::kF32, {2}, {1, 2});
    tensors_["lm_head.weight"] = float_tensor(DType::kF32, {1, 2}, {1, 2});
  }

  Json& group() { return config_["quantization_config"]["config_groups"]["group_0"]; }
  Json& weights() { return group()["weights"]; }

  std::unique_ptr<WeightSource> open() {
    write_model(folder_, config_.dump(), tensors_);
    return open_weight_source(folder_.path());
  }
  void expect_refused(const std::vector<std::string>& parts) {
    expect_error([&] { open()->compressed("m.weight"); }, ErrorCode::kInputMalformed, parts);
  }

  TempFolder folder_;
  Json config_;
  std::map<std::string, Tensor> tensors_;
};

TEST_F(CompressedTensorsSource, ShowsLinearsAndHidesTheirParts) {
  const auto source = open();
  EXPECT_EQ(source->names(),
            (std::vector<std::string>{"lm_head.weight", "m.weight", "norm.weight"}));
  EXPECT_TRUE(source->is_compressed("m.weight"));
  EXPECT_FALSE(source->is_compressed("lm_head.weight"));
  EXPECT_FALSE(source->contains("m.weight_scale"));
  EXPECT_EQ(source->shape("m.weight"), (Shape{2, 16}));
  EXPECT_EQ(source->stored_bytes("m.weight"), 16 + 8 + 16);
  EXPECT_EQ(source->config_json().find("quantization_config"), std::string::npos);
  const CompressedWeight weight = source->compressed("m.weight");
  EXPECT_EQ(weight.format, WeightFormat::kInt4);
  EXPECT_EQ(weight.group_size, 8);
  EXPECT_EQ(weight.scale, (std::vector<float>{1, 2, 0.5F, 0.25F}));
  // Two's complement, low nibble first: -8, -7, … and 7, 6, ….
  EXPECT_EQ(weight.codes[0], 0x98);
  EXPECT_EQ(weight.codes[4], 0x10);
  EXPECT_EQ(weight.codes[8], 0x67);
  expect_error([&] { source->dense("m.weight"); }, ErrorCode::kInputMalformed, {"m.weight"});
  expect_error([&] { source->dense("m.weight_scale"); }, ErrorCode::kInputMalformed,
               {"m.weight_scale", "part of"});
}

TEST_F(CompressedTensorsSource, ZeroPointsArePackedAlongTheOutputs) {
  weights()["symmetric"] = false;
  // Row 0 of group 0 has the zero point 3 - 8, stored as 3; row 1 of group 1 has 12 - 8.
  tensors_["m.weight_zero_point"] = int_tensor({1, 2}, {0x03, 0xC0});
  const CompressedWeight weight = open()->compressed("m.weight");
  EXPECT_FALSE(weight.symmetric);
  EXPECT_EQ(weight.zero_point, (std::vector<uint8_t>{3, 0, 0, 12}));
  EXPECT_EQ(weight.codes[0], 0x10);  // 0, 1, …
}

TEST_F(CompressedTensorsSource, TargetsAndIgnoredModulesGoByNameOrPattern) {
  Json other = group();
  other["targets"] = {"re:.*nothing.*"};
  group()["targets"] = {"re:m$"};
  config_["quantization_config"]["config_groups"]["group_1"] = other;
  EXPECT_EQ(open()->compressed("m.weight").group_size, 8);
  config_["quantization_config"]["ignore"] = {"re:.*"};
  expect_refused({"m.weight_scale", "does not quantize"});
  config_["quantization_config"]["ignore"] = {"re:("};
  expect_refused({"(", "no regular expression"});
  config_["quantization_config"]["ignore"] = {"re:(a?a?)*(m|mm)*x"};
  EXPECT_EQ(open()->compressed("m.weight").group_size, 8);
}

TEST_F(CompressedTensorsSource, IncompleteLinearsAreRefused) {
  const auto whole = tensors_;
  const auto without = [&](const std::string& name) {
    tensors_ = whole;
    tensors_.erase(name);
  };
  without("m.weight_packed");
  expect_refused({"m.weight_packed"});
  without("m.weight_shape");  // The words may have more columns than the matrix.
  expect_refused({"m.weight_shape", "not there"});
  tensors_ = whole;
  tensors_["m.weight_packed"] = int_tensor({2, 1}, {1, 2});
  expect_refused({"m.weight_packed", "[2, 1]", "[2, 2]"});
  tensors_ = whole;
  tensors_["m.weight_scale"] = float_tensor(DType::kF32, {2, 1}, {1, 2});
  expect_refused({"m.weight_scale", "expected 4"});
  for (const float bad : {0.0F, -1.0F, std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    tensors_["m.weight_scale"] = float_tensor(DType::kF32, {2, 2}, {1, 2, bad, 1});
    expect_refused({"m.weight", "weight_scale holds"});
  }
  tensors_ = whole;
  for (const std::vector<int64_t>& shape :
       std::vector<std::vector<int64_t>>{{2, -16}, {0, 16}, {int64_t{1} << 40, int64_t{1} << 40}}) {
    tensors_["m.weight_shape"] = long_tensor(shape);
    expect_refused({"m.weight_shape"});
  }
  tensors_ = whole;
  tensors_["m.weight_g_idx"] = int_tensor({16}, std::vector<uint32_t>(16, 0));
  expect_refused({"m.weight_g_idx", "another order"});
  tensors_ = whole;
  weights()["symmetric"] = false;
  expect_refused({"m.weight_zero_point", "not there"});
}

TEST_F(CompressedTensorsSource, SchemesThatAreNotReadAreNamed) {
  const Json usual = config_;
  const auto with = [&](const char* key, const Json& value, const std::vector<std::string>& parts) {
    config_ = usual;
    weights()[key] = value;
    expect_refused(parts);
  };
  with("num_bits", 3, {"group_0.weights", "3 bits"});
  with("num_bits", "four", {"num_bits", "four"});
  with("type", "complex", {"complex"});
  with("strategy", "attn_head", {"strategy", "attn_head"});
  with("actorder", "group", {"actorder"});
  with("group_size", -5, {"group_size", "-5"});
  with("block_structure", {0, 1}, {"block_structure"});
  config_ = usual;
  group()["input_activations"] = {{"num_bits", 8}, {"type", "int"}, {"strategy", "channel"}};
  expect_refused({"input_activations", "channel"});
  config_ = usual;
  group()["output_activations"] = {{"num_bits", 8}};
  expect_refused({"output_activations"});
  config_ = usual;
  group().erase("weights");
  expect_refused({"weights", "missing"});
  config_ = usual;
  config_["quantization_config"].erase("config_groups");
  expect_refused({"config_groups", "missing"});
  config_ = usual;
  config_["quantization_config"]["kv_cache_scheme"] = {{"num_bits", 4}, {"type", "int"}};
  expect_refused({"kv_cache_scheme"});
  config_ = usual;
  config_["quantization_config"]["ignore"] = 5;
  expect_refused({"ignore", "5"});
}

}  // namespace
}  // namespace pare::test
