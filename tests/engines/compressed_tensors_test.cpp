// Exports as compressed-tensors: read back by pare, and by a reader that shares no code with it.
#include <array>

#include "formats/weight_source.h"
#include "tests/engines/engine_fixture.h"
#include "tests/support/python.h"

namespace pare::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr const char* kForm = "compressed-tensors";

constexpr std::array<Scheme, 16> kSchemes = {{{"fp8"},
                                              {"fp8_pc_pt"},
                                              {"fp8_block"},
                                              {"int8_sq"},
                                              {"int8_sq", false, true},
                                              {"int8_wo"},
                                              {"int4_awq"},
                                              {"int4_awq", true},
                                              {"w4a8_awq"},
                                              {"nvfp4"},
                                              {"nvfp4_wo"},
                                              {"mxfp4"},
                                              {"mxfp4_wo"},
                                              {"int4_awq", false, false, "sparsegpt"},
                                              {"int4_awq", true, false, "magnitude"},
                                              {"fp8", false, false, "wanda"}}};

class CompressedTensors : public EngineTest {
 protected:
  using EngineTest::exported;
  ExportReport exported(const std::string& checkpoint) const {
    return EngineTest::exported(checkpoint, kForm);
  }
};

TEST_F(CompressedTensors, IsTheSameModel) {
  for (const Scheme& scheme : kSchemes) {
    SCOPED_TRACE(scheme.text());
    const std::string source = checkpoint(scheme);
    const ExportReport report = exported(source);
    EXPECT_EQ(report.quantized_linears, 14);
    EXPECT_EQ(divergence(source, report.output), 0);
  }
}

TEST_F(CompressedTensors, AnotherReaderFindsTheSameWeights) {
  if (find_python(PARE_PYTHON).empty()) GTEST_SKIP() << "no python3 here can import numpy";
  for (const Scheme& scheme : kSchemes) {
    SCOPED_TRACE(scheme.text());
    const std::string source = checkpoint(scheme);
    const ExportReport report = exported(source);
    expect_values(read_in_python("hf_folder_reader.py", report.output, path("read")), source,
                  [](CompressedWeight weight) { return weight; });
  }
}

TEST_F(CompressedTensors, SaysHowEachLinearIsStored) {
  const json config = config_of(exported(checkpoint({"int4_awq"})).output);
  const json& quantization = config.at("quantization_config");
  EXPECT_EQ(config.at("architectures"), json({"LlamaForCausalLM"}));
  EXPECT_EQ(quantization.at("quant_method"), "compressed-tensors");
  EXPECT_EQ(quantization.at("format"), "pack-quantized");
  EXPECT_EQ(quantization.at("ignore"), json({"lm_head"}));
  EXPECT_EQ(quantization.at("sparsity_config"), json::object());
  const json& group = quantization.at("config_groups").at("group_0");
  EXPECT_EQ(group.at("targets"), json({"Linear"}));
  const json expected = {{"actorder", nullptr},
                         {"block_structure", nullptr},
                         {"dynamic", false},
                         {"group_size", 32},
                         {"num_bits", 4},
                         {"observer", "memoryless_minmax"},
                         {"observer_kwargs", json::object()},
                         {"scale_dtype", nullptr},
                         {"strategy", "group"},
                         {"symmetric", true},
                         {"type", "int"},
                         {"zp_dtype", nullptr}};
  EXPECT_EQ(group.at("weights"), expected);
}

TEST_F(CompressedTensors, SeveralSchemesNameTheirLinears) {
  QuantizeOptions options = job("mixed.h5", "int4_awq");
  options.overrides = {{"down_proj", "fp8"}};
  options.exclude = {"layers\\.0\\.mlp\\.gate_proj", "layers\\.0\\.mlp\\.up_proj"};
  const std::string source = quantize(options, {}).output;
  const ExportReport report = exported(source);
  const json quantization = config_of(report.output).at("quantization_config");
  EXPECT_EQ(quantization.at("format"), "mixed-precision");
  EXPECT_EQ(quantization.at("config_groups").size(), 2U);
  EXPECT_EQ(quantization.at("ignore"),
            json({"model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj", "lm_head"}));
  const auto found = open_weight_source(report.output);
  EXPECT_FALSE(found->is_compressed("model.layers.0.mlp.up_proj.weight"));
  EXPECT_EQ(found->compressed("model.layers.1.mlp.down_proj.weight").format,
            WeightFormat::kFp8E4m3);
}

TEST_F(CompressedTensors, CarriesTheCacheOfKeysAndValues) {
  QuantizeOptions options = job("cache.h5", "fp8");
  options.kv_cache = "fp8";
  options.force = true;
  for (const char* scales : {"tensor", "head"}) {
    options.kv_scales = scales;
    const std::string source = quantize(options, {}).output;
    const ExportReport report = exported(source);
    const json quantization = config_of(report.output).at("quantization_config");
    const json& cache = quantization.at("kv_cache_scheme");
    EXPECT_EQ(cache.at("num_bits"), 8);
    EXPECT_EQ(cache.at("strategy"), std::string(scales) == "head" ? "attn_head" : "tensor");
    const auto found = open_weight_source(report.output);
    const auto expected = open_weight_source(source);
    for (const char* name : {"model.layers.0.self_attn.k_scale", "model.layers.1.self_attn.v_scale",
                             "model.layers.0.self_attn.kv_cache_dtype"}) {
      const TensorView a = found->dense(name);
      const TensorView b = expected->dense(name);
      EXPECT_EQ(a.shape, b.shape) << name;
      EXPECT_TRUE(std::equal(a.bytes.begin(), a.bytes.end(), b.bytes.begin(), b.bytes.end()));
    }
  }
  options.kv_cache = "int8";
  const Failure failure = export_failure(quantize(options, {}).output, kForm);
  EXPECT_EQ(failure.code, ErrorCode::kInputMalformed);
  EXPECT_THAT(failure.message, HasSubstr("INT8"));
}

TEST_F(CompressedTensors, ShardsAndThreadsChangeNothing) {
  const std::string source = checkpoint({"int4_awq"});
  const ExportReport whole = exported(source);
  ExportOptions options;
  options.checkpoint = source;
  options.format = "compressed-tensors";
  options.output = path("one");
  options.threads = 1;
  const ExportReport one = export_to(options, {});
  ASSERT_EQ(one.files.size(), whole.files.size());
  for (size_t i = 0; i < one.files.size(); ++i)
    EXPECT_EQ(one.files[i].sha256, whole.files[i].sha256);
  options.output = path("shards");
  options.shard_bytes = 20000;
  const ExportReport shards = export_to(options, {});
  const json index = json::parse(read_file(path("shards/model.safetensors.index.json")));
  EXPECT_GT(shards.files.size(), whole.files.size() + 2);
  const auto a = open_weight_source(path("shards"));
  const auto b = open_weight_source(path("one"));
  EXPECT_EQ(a->names(), b->names());
  int64_t total = 0;
  for (const std::string& name : a->names()) total += a->stored_bytes(name);
  EXPECT_EQ(index.at("metadata").at("total_size"), total);
}

// Without a quantized linear the folder is one that is not quantized, and says nothing else.
TEST_F(CompressedTensors, NothingQuantizedIsNoConfiguration) {
  for (const char* form : {"compressed-tensors", "modelopt"}) {
    const ExportReport report = exported(checkpoint({"full_prec"}), form);
    EXPECT_THAT(report.warnings, ::testing::Contains(HasSubstr("no linear is quantized")));
    EXPECT_FALSE(config_of(path("out")).contains("quantization_config"));
    EXPECT_FALSE(std::filesystem::exists(path("out/hf_quant_config.json")));
    EXPECT_EQ(check_folder({.folder = path("out")}).format, "dense");
  }
}

TEST_F(CompressedTensors, ReplacesOnlyWhatItWrote) {
  const std::string source = checkpoint({"fp8"});
  exported(source);
  exported(source);  // with force
  ExportOptions options;
  options.checkpoint = source;
  options.format = "compressed-tensors";
  options.output = path("out");
  const auto code_of = [&] {
    try {
      export_to(options, {});
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kInternal;
  };
  EXPECT_EQ(code_of(), ErrorCode::kWriteFailed);
  options.force = true;
  write_file(path("out/mine.txt"), "not to be lost");
  EXPECT_EQ(code_of(), ErrorCode::kWriteFailed);
  EXPECT_EQ(read_file(path("out/mine.txt")), "not to be lost");
  options.format = "no-such-form";
  EXPECT_EQ(code_of(), ErrorCode::kUsage);
  options.format = "compressed-tensors";
  options.checkpoint = path("missing.h5");
  EXPECT_EQ(code_of(), ErrorCode::kInputMissing);
}

}  // namespace
}  // namespace pare::testing
