// Exports as AutoAWQ, GPTQ and Model Optimizer write them: read back by pare, and by a reader that
// shares no code with it.
#include <array>
#include <cmath>

#include "core/dtype.h"
#include "engines/engine_export.h"
#include "formats/weight_source.h"
#include "tests/engines/engine_fixture.h"
#include "tests/support/python.h"

namespace pare::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

struct FormCase {
  const char* form;
  Scheme scheme;
};

constexpr std::array<FormCase, 21> kCases = {{{"awq", {"int4_awq"}},
                                              {"awq", {"int4_awq", true}},
                                              {"awq", {"w4a8_awq"}},
                                              {"awq", {"int4_awq", false, false, "sparsegpt"}},
                                              {"awq", {"int4_awq", true, false, "magnitude"}},
                                              {"gptq", {"int4_awq"}},
                                              {"gptq", {"int8_wo"}},
                                              {"gptq-v2", {"int4_awq"}},
                                              {"gptq-v2", {"int4_awq", true}},
                                              {"gptq-v2", {"int8_wo"}},
                                              {"gptq-v2", {"int4_awq", true, false, "sparsegpt"}},
                                              {"modelopt", {"fp8"}},
                                              {"modelopt", {"fp8_pc_pt"}},
                                              {"modelopt", {"int8_sq"}},
                                              {"modelopt", {"int8_wo"}},
                                              {"modelopt", {"int4_awq"}},
                                              {"modelopt", {"w4a8_awq"}},
                                              {"modelopt", {"nvfp4"}},
                                              {"modelopt", {"nvfp4_wo"}},
                                              {"modelopt", {"int4_awq", false, false, "sparsegpt"}},
                                              {"modelopt", {"fp8", false, false, "wanda"}}}};

// F16 moves a scale by 2^-11 of itself at most, and then a product may be rounded to the other of
// two BF16 numbers, 2^-8 apart: the divergence of the worst token is of the order of the square of
// that times a few.
constexpr double kF16Divergence = 5e-4;

bool stores_f16(const std::string& form) { return form != "modelopt"; }

CompressedWeight as_stored(const std::string& form, CompressedWeight weight) {
  if (!stores_f16(form)) return weight;
  for (float& scale : weight.scale) scale = f16_to_f32(f32_to_f16(scale));
  return weight;
}

class HfForms : public EngineTest {};

TEST_F(HfForms, AreTheSameModel) {
  for (const FormCase& each : kCases) {
    SCOPED_TRACE(std::string(each.form) + " " + each.scheme.text());
    const std::string source = checkpoint(each.scheme);
    const ExportReport report = exported(source, each.form);
    EXPECT_EQ(report.quantized_linears, 14);
    const auto made = open_weight_source(report.output);
    const auto original = open_weight_source(source);
    EXPECT_EQ(made->names(), original->names());
    // AWQ and GPTQ leave inputs as they are.
    const bool rounds_less =
        stores_f16(each.form) && std::string(each.scheme.qformat) == "w4a8_awq";
    const double most = !stores_f16(each.form) ? 0 : rounds_less ? 0.02 : kF16Divergence;
    EXPECT_LE(divergence(source, report.output), most);
    const size_t remarks = stores_f16(each.form) ? 1 : 0;
    EXPECT_EQ(form_warnings(report).size(), remarks + (rounds_less ? 1 : 0));
  }
}

TEST_F(HfForms, AnotherReaderFindsTheSameWeights) {
  if (find_python(PARE_PYTHON).empty()) GTEST_SKIP() << "no python3 here can import numpy";
  for (const FormCase& each : kCases) {
    SCOPED_TRACE(std::string(each.form) + " " + each.scheme.text());
    const std::string source = checkpoint(each.scheme);
    const ExportReport report = exported(source, each.form);
    expect_values(read_in_python("hf_folder_reader.py", report.output, path("read")), source,
                  [&](CompressedWeight weight) { return as_stored(each.form, std::move(weight)); });
  }
}

TEST_F(HfForms, GoFromOneToAnother) {
  const std::string source = checkpoint({"int4_awq"});
  const std::string first = exported(source, "awq", "first").output;
  const std::string second = exported(first, "compressed-tensors", "second").output;
  const std::string third = exported(second, "gptq", "third").output;
  const std::string fourth = exported(third, "modelopt", "fourth").output;
  EXPECT_EQ(divergence(first, second), 0);
  EXPECT_EQ(divergence(first, third), 0);
  EXPECT_EQ(divergence(first, fourth), 0);
}

TEST_F(HfForms, SayWhatTheyAre) {
  const std::string source = checkpoint({"int4_awq"});
  const json awq = config_of(exported(source, "awq").output).at("quantization_config");
  EXPECT_EQ(awq, json::parse(R"({"quant_method": "awq", "bits": 4, "group_size": 32,
      "zero_point": true, "version": "gemm", "modules_to_not_convert": null})"));
  const ExportReport report = exported(source, "gptq");
  const json gptq = config_of(report.output).at("quantization_config");
  EXPECT_EQ(gptq.at("checkpoint_format"), "gptq");
  EXPECT_EQ(gptq.at("sym"), true);
  EXPECT_EQ(gptq.at("desc_act"), false);
  EXPECT_EQ(gptq, json::parse(read_file(report.output + "/quantize_config.json")));
  const std::string modelopt = exported(source, "modelopt").output;
  EXPECT_EQ(json::parse(read_file(modelopt + "/hf_quant_config.json")).at("quantization"),
            json::parse(R"({"quant_algo": "W4A16_AWQ", "kv_cache_quant_algo": null,
                "group_size": 32, "has_zero_point": false, "pre_quant_scale": true,
                "exclude_modules": ["lm_head"]})"));
  const json fp8 =
      config_of(exported(checkpoint({"fp8"}), "modelopt").output).at("quantization_config");
  EXPECT_EQ(fp8.at("quant_method"), "modelopt");
  EXPECT_EQ(fp8.at("config_groups").at("group_0"),
            json::parse(R"({"input_activations": {"dynamic": false, "num_bits": 8, "type": "float"},
                "weights": {"dynamic": false, "num_bits": 8, "type": "float"},
                "targets": ["Linear"]})"));
}

TEST_F(HfForms, LeaveModulesAlone) {
  QuantizeOptions options = job("some.h5", "int4_awq");
  options.exclude = {"layers\\.0\\.mlp\\..*", "layers\\.1\\.mlp\\.down_proj"};
  const std::string source = quantize(options, {}).output;
  const json left = {"model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj",
                     "model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"};
  const json awq = config_of(exported(source, "awq").output).at("quantization_config");
  EXPECT_EQ(awq.at("modules_to_not_convert"), left);
  const json gptq = config_of(exported(source, "gptq").output).at("quantization_config");
  EXPECT_EQ(gptq.at("dynamic").size(), left.size());
  EXPECT_TRUE(gptq.at("dynamic").contains("-:^model\\.layers\\.1\\.mlp\\.down_proj$"));
  const json modelopt = config_of(exported(source, "modelopt").output).at("quantization_config");
  EXPECT_EQ(modelopt.at("ignore"),
            json({"lm_head", "model.layers.0.mlp*", "model.layers.1.mlp.down_proj"}));
  EXPECT_EQ(divergence(source, path("out")), 0);
}

TEST_F(HfForms, ModelOptNamesEachLayerOfAMixture) {
  QuantizeOptions options = job("mixed.h5", "int4_awq");
  options.overrides = {{"down_proj", "fp8"}};
  const std::string source = quantize(options, {}).output;
  const ExportReport report = exported(source, "modelopt");
  const json config = config_of(report.output).at("quantization_config");
  EXPECT_EQ(config.at("quant_algo"), "MIXED_PRECISION");
  EXPECT_EQ(config.at("quantized_layers").size(), 14U);
  EXPECT_EQ(config.at("quantized_layers").at("model.layers.1.mlp.down_proj").at("quant_algo"),
            "FP8");
  EXPECT_EQ(config.at("config_groups").size(), 1U);
  EXPECT_EQ(divergence(source, report.output), 0);
  EXPECT_THAT(export_failure(source, "awq").message, HasSubstr("FP8"));
  EXPECT_THAT(export_failure(source, "gptq").message, HasSubstr("down_proj"));
}

TEST_F(HfForms, ModelOptKeepsTheCache) {
  QuantizeOptions options = job("cache.h5", "fp8");
  options.force = true;
  for (const char* format : {"fp8", "int8"}) {
    options.kv_cache = format;
    options.kv_scales = "tensor";
    const std::string source = quantize(options, {}).output;
    const ExportReport report = exported(source, "modelopt");
    EXPECT_TRUE(form_warnings(report).empty());
    EXPECT_EQ(divergence(source, report.output), 0);
    EXPECT_EQ(json::parse(read_file(report.output + "/hf_quant_config.json"))
                  .at("quantization")
                  .at("kv_cache_quant_algo"),
              std::string(format) == "fp8" ? "FP8" : "INT8");
    options.kv_scales = "head";
    const ExportReport joined = exported(quantize(options, {}).output, "modelopt");
    ASSERT_EQ(form_warnings(joined).size(), 1U);
    EXPECT_THAT(form_warnings(joined)[0], HasSubstr("the largest of"));
  }
  options.kv_affine = true;
  EXPECT_THAT(export_failure(quantize(options, {}).output, "modelopt").message,
              HasSubstr("no offsets"));
}

TEST_F(HfForms, RefuseWhatTheyCannotHold) {
  const std::string fp8 = checkpoint({"fp8"});
  EXPECT_EQ(export_failure(fp8, "awq").code, ErrorCode::kInputMalformed);
  EXPECT_THAT(export_failure(fp8, "gptq").message, HasSubstr("compressed-tensors"));
  EXPECT_THAT(export_failure(path("model"), "awq").message, HasSubstr("no quantized linears"));
  for (const Scheme& scheme : {Scheme{"fp8_block"}, Scheme{"mxfp4"}, Scheme{"int4_awq", true},
                               Scheme{"int8_sq", false, true}}) {
    SCOPED_TRACE(scheme.text());
    EXPECT_THAT(export_failure(checkpoint(scheme), "modelopt").message, HasSubstr("has no name"));
  }
}

TEST_F(HfForms, VersionOneOfGptqHasNoZeroPointZero) {
  // A group whose weights are all positive has it.
  ModelTensors tensors = make_tensors(shape_, 11);
  for (auto& [name, tensor] : tensors) {
    if (name.find("layers.1.mlp.up_proj") == std::string::npos) continue;
    for (uint16_t& value : tensor.bits) {
      value = f32_to_bf16(0.5F + std::abs(bf16_to_f32(value)));
    }
  }
  write_model(path("model"), shape_, tensors);
  QuantizeOptions options = job("positive.h5", "int4_wo");
  options.symmetric = false;
  const std::string source = quantize(options, {}).output;
  EXPECT_THAT(export_failure(source, "gptq").message, HasSubstr("gptq-v2"));
  EXPECT_LE(divergence(source, exported(source, "gptq-v2").output), kF16Divergence);
}

}  // namespace
}  // namespace pare::testing
