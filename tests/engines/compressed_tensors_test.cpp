// Exports as compressed-tensors: read back by pare, and by a reader that shares no code with it.
#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engines/engine_export.h"
#include "formats/weight_source.h"
#include "kernels/codec.h"
#include "pare/engines.h"
#include "pare/evaluate.h"
#include "tests/pipeline/pipeline_fixture.h"

namespace pare::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

struct Scheme {
  const char* qformat;
  bool asym = false;
  bool dynamic = false;
  const char* sparsity = "none";
};

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

/// A Python with numpy; empty when there is none.
std::string find_python() {
  for (const char* python : {PARE_PYTHON, "/usr/bin/python3", "python3"}) {
    const std::string probe = std::string("'") + python + "' -c 'import numpy' 2>/dev/null";
    if (*python != '\0' && std::system(probe.c_str()) == 0) return python;
  }
  return "";
}

class CompressedTensors : public PipelineTest {
 protected:
  CompressedTensors() {
    ModelShape shape;
    shape.hidden = 64;
    shape.feed_forward = 96;
    write(shape);
  }

  std::string checkpoint(const Scheme& scheme) {
    QuantizeOptions options = job("q.h5", scheme.qformat, scheme.sparsity);
    options.symmetric = !scheme.asym;
    options.dynamic_activations = scheme.dynamic;
    options.force = true;
    return quantize(options, {}).output;
  }

  ExportReport exported(const std::string& checkpoint, const std::string& name = "out") const {
    ExportOptions options;
    options.checkpoint = checkpoint;
    options.format = "compressed-tensors";
    options.output = path(name);
    options.force = true;
    options.threads = 2;
    return export_to(options, {});
  }

  static json config_of(const std::string& folder) {
    return json::parse(read_file(folder + "/config.json"));
  }
};

TEST_F(CompressedTensors, IsTheSameModel) {
  for (const Scheme& scheme : kSchemes) {
    SCOPED_TRACE(std::string(scheme.qformat) + (scheme.asym ? " asym " : " ") + scheme.sparsity);
    const std::string source = checkpoint(scheme);
    const ExportReport report = exported(source);
    EXPECT_EQ(report.quantized_linears, 14);
    EvaluateOptions options;
    options.baseline = source;
    options.candidates = {report.output};
    options.text = path("calib.ids");
    options.ctx = length_;
    const EvaluateReport found = evaluate(options, {});
    // 1 / (1 / s) need not be s: the factor that NVFP4's scales share may differ in its last bit.
    const double most = std::strncmp(scheme.qformat, "nvfp4", 5) == 0 ? 1e-5 : 0;
    EXPECT_LE(found.candidates[0].perplexities.at("perplexity").divergence.kl_max, most);
  }
}

TEST_F(CompressedTensors, AnotherReaderFindsTheSameWeights) {
  const std::string python = find_python();
  if (python.empty()) GTEST_SKIP() << "no python3 here can import numpy";
  for (const Scheme& scheme : kSchemes) {
    SCOPED_TRACE(std::string(scheme.qformat) + (scheme.asym ? " asym " : " ") + scheme.sparsity);
    const std::string source_path = checkpoint(scheme);
    const ExportReport report = exported(source_path);
    std::filesystem::create_directories(path("read"));
    const Finished reader =
        run_program(python, {PARE_SOURCE_DIR "/tests/engines/compressed_tensors_reader.py",
                             report.output, path("read")});
    ASSERT_EQ(reader.status, 0) << reader.err;
    const auto source = open_weight_source(source_path);
    std::istringstream lines(reader.out);
    std::string module;
    int64_t rows = 0;
    int64_t columns = 0;
    int count = 0;
    while (lines >> module >> rows >> columns) {
      const CompressedWeight weight = source->compressed(module + ".weight");
      ASSERT_EQ(weight.out_features, rows);
      ASSERT_EQ(weight.in_features, columns);
      std::vector<float> expected(static_cast<size_t>(rows * columns));
      dequantize_rows(weight, 0, rows, expected);
      const std::string bytes = read_file(path("read/" + module + ".f32"));
      ASSERT_EQ(bytes.size(), expected.size() * sizeof(float));
      std::vector<float> found(expected.size());
      std::memcpy(found.data(), bytes.data(), bytes.size());
      const bool divides = weight.format == WeightFormat::kNvfp4;  // by the shared factor
      for (size_t i = 0; i < found.size(); ++i) {
        if (divides) {
          ASSERT_NEAR(found[i], expected[i], std::abs(expected[i]) * 0x1p-22F)
              << module << " " << i;
        } else {
          ASSERT_EQ(found[i], expected[i]) << module << " " << i;
        }
      }
      ++count;
    }
    EXPECT_EQ(count, report.quantized_linears);
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
  options.kv_scales = "tensor";
  const std::string source = quantize(options, {}).output;
  const ExportReport report = exported(source);
  const json quantization = config_of(report.output).at("quantization_config");
  EXPECT_EQ(quantization.at("kv_cache_scheme").at("num_bits"), 8);
  const auto found = open_weight_source(report.output);
  const auto expected = open_weight_source(source);
  for (const char* name : {"model.layers.0.self_attn.k_scale", "model.layers.1.self_attn.v_scale",
                           "model.layers.0.self_attn.kv_cache_dtype"}) {
    const TensorView a = found->dense(name);
    const TensorView b = expected->dense(name);
    EXPECT_EQ(a.shape, b.shape) << name;
    EXPECT_TRUE(std::equal(a.bytes.begin(), a.bytes.end(), b.bytes.begin(), b.bytes.end()));
  }
  options.kv_cache = "int8";
  options.force = true;
  quantize(options, {});
  try {
    exported(source);
    ADD_FAILURE() << "an INT8 cache has no place";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInputMalformed);
    EXPECT_THAT(error.what(), HasSubstr("INT8"));
  }
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
