// Exports for TensorRT-LLM: read back by pare, and by a reader that shares no code with it.
#include "tests/engines/engine_fixture.h"
#include "tests/engines/tensorrt_llm_fixture.h"

#include <array>
#include <cmath>
#include <map>
#include <sstream>

#include "core/dtype.h"
#include "kernels/codec.h"
#include "pare/evaluate.h"

namespace pare::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr std::array<Ranks, 6> kRanks = {{{1, 1}, {2, 1}, {5, 1}, {10, 1}, {1, 2}, {2, 3}}};

std::string label(const TrtScheme& scheme, const Ranks& ranks) {
  return std::string(scheme.algorithm) + " " + scheme.sparsity + " tp " +
         std::to_string(ranks.tp_size) + " pp " + std::to_string(ranks.pp_size);
}

std::vector<float> values_of(const CompressedWeight& weight) {
  std::vector<float> values(static_cast<size_t>(weight.out_features * weight.in_features));
  dequantize_rows(weight, 0, weight.out_features, values);
  return values;
}

/// What TensorRT-LLM's names make of a linear of a Llama or a Mixtral.
std::string reader_name(const std::string& weight) {
  const std::map<std::string, std::string> names = {{"self_attn.q_proj", "attention.qkv.q"},
                                                    {"self_attn.k_proj", "attention.qkv.k"},
                                                    {"self_attn.v_proj", "attention.qkv.v"},
                                                    {"self_attn.o_proj", "attention.dense"},
                                                    {"mlp.gate_proj", "mlp.fc"},
                                                    {"mlp.up_proj", "mlp.gate"},
                                                    {"mlp.down_proj", "mlp.proj"},
                                                    {"block_sparse_moe.gate", "mlp.router"}};
  const std::string prefix = "model.layers.";
  const size_t dot = weight.find('.', prefix.size());
  const std::string layer = "transformer.layers." + weight.substr(prefix.size(), dot - 13) + ".";
  const std::string module = weight.substr(dot + 1, weight.size() - dot - 8);
  if (const auto found = names.find(module); found != names.end()) return layer + found->second;
  const std::string experts = "block_sparse_moe.experts.";
  const std::string number = module.substr(experts.size(), module.rfind('.') - experts.size());
  const std::string matrix = module.substr(module.rfind('.') + 1);
  if (matrix == "w2") return layer + "mlp.proj." + number;
  return layer + "mlp.fc." + number + (matrix == "w3" ? ".up" : ".gate");
}

/// A Python with numpy; empty when there is none.
struct Read {
  std::vector<int64_t> shape;
  std::vector<float> values;
  float input_scale = 0;
};

class TensorRtLlm : public TensorRtLlmTest {
 protected:
  /// Of each folder, by the reader's names; nothing when there is no Python with numpy.
  static std::vector<std::map<std::string, Read>> read_with_python(
      const std::vector<std::string>& folders, int64_t kv_heads) {
    static const std::string python = find_python();
    if (python.empty()) return {};
    std::vector<std::string> arguments = {PARE_SOURCE_DIR "/tests/engines/tensorrt_llm_reader.py",
                                          std::to_string(kv_heads)};
    arguments.insert(arguments.end(), folders.begin(), folders.end());
    const Finished reader = run_program(python, arguments);
    EXPECT_EQ(reader.status, 0) << reader.err;
    std::vector<std::map<std::string, Read>> found(folders.size());
    std::istringstream lines(reader.out);
    std::string folder;
    std::string module;
    int64_t rows = 0;
    int64_t columns = 0;
    std::string scale;
    while (lines >> folder >> module >> rows >> columns >> scale) {
      const auto at = std::ranges::find(folders, folder) - folders.begin();
      Read& read = found[static_cast<size_t>(at)][module];
      read.shape = {rows, columns};
      read.input_scale = std::strtof(scale.c_str(), nullptr);
      const std::string bytes = read_file(folder + "/read/" + module + ".f32");
      read.values.resize(bytes.size() / sizeof(float));
      std::memcpy(read.values.data(), bytes.data(), bytes.size());
    }
    return found;
  }

  /// Whether a folder holds what the source does, tensor by tensor.
  void expect_same(const std::string& source, const std::string& folder, bool has_masks) const {
    const auto expected = open_model_files(source).source;
    const auto found = open_model_files(folder).source;
    EXPECT_EQ(found->names(), expected->names());
    for (const std::string& name : expected->names()) {
      SCOPED_TRACE(name);
      if (!expected->is_compressed(name)) {
        const TensorView a = expected->dense(name);
        const TensorView b = found->dense(name);
        EXPECT_EQ(a.shape, b.shape);
        EXPECT_EQ(to_f32(a, name), to_f32(b, name));
        continue;
      }
      const CompressedWeight a = expected->compressed(name);
      if (!found->is_compressed(name)) {  // W8A16
        std::vector<float> rounded = values_of(a);
        for (float& value : rounded) value = round_to_bf16(value);
        EXPECT_EQ(to_f32(found->dense(name), name), rounded);
        continue;
      }
      const CompressedWeight b = found->compressed(name);
      EXPECT_EQ(values_of(a), values_of(b));
      if (!has_masks) {
        EXPECT_EQ(a.codes, b.codes);
      }
      EXPECT_EQ(a.scale, b.scale);
      EXPECT_EQ(a.activation, b.activation);
      EXPECT_EQ(a.input_scale, b.input_scale);
      ASSERT_EQ(a.pre_quant_scale.size(), b.pre_quant_scale.size());
      for (size_t i = 0; i < a.pre_quant_scale.size(); ++i) {
        EXPECT_NEAR(b.pre_quant_scale[i], a.pre_quant_scale[i], a.pre_quant_scale[i] / 256);
      }
    }
  }

  double mean_kl(const std::string& baseline, const std::string& candidate) const {
    EvaluateOptions options;
    options.baseline = baseline;
    options.candidates = {candidate};
    options.text = path("calib.ids");
    options.ctx = length_;
    const EvaluateReport report = evaluate(options, {});
    return report.candidates[0].perplexities.at("perplexity").divergence.kl_mean.value;
  }
};

TEST_F(TensorRtLlm, RanksPutTogetherAreTheModel) {
  use(llama());
  for (const TrtScheme& scheme : trt_schemes()) {
    const std::string source = checkpoint(scheme);
    for (const Ranks& ranks : kRanks) {
      SCOPED_TRACE(label(scheme, ranks));
      const ExportReport report = exported(source, ranks);
      EXPECT_EQ(report.quantized_linears, 21);
      const json config = json_of(report.output + "/config.json");
      EXPECT_EQ(config.at("quantization").at("quant_algo"), scheme.algorithm);
      EXPECT_EQ(config.at("mapping").at("world_size"), ranks.tp_size * ranks.pp_size);
      expect_same(source, report.output, scheme.sparsity != std::string("none"));
      EXPECT_TRUE(refusals(report.output, ranks.tp_size).empty())
          << refusals(report.output, ranks.tp_size)[0].subject << " "
          << refusals(report.output, ranks.tp_size)[0].message;
    }
  }
}

TEST_F(TensorRtLlm, AnotherReaderFindsTheSameWeights) {
  use(llama());
  int number = 0;
  for (const TrtScheme& scheme : trt_schemes()) {
    const std::string source_path = checkpoint(scheme);
    const auto source = open_weight_source(source_path);
    std::vector<std::string> folders;
    for (const Ranks& ranks : kRanks) {
      folders.push_back(exported(source_path, ranks, "engine" + std::to_string(number++)).output);
    }
    const auto read = read_with_python(folders, 5);
    if (read.empty()) GTEST_SKIP() << "no python3 here can import numpy";
    for (size_t i = 0; i < folders.size(); ++i) {
      SCOPED_TRACE(label(scheme, kRanks[i]));
      EXPECT_EQ(read[i].size(), 21U);
      for (const std::string& name : source->names()) {
        if (!source->is_compressed(name)) continue;
        const CompressedWeight weight = source->compressed(name);
        const Read& found = read[i].at(reader_name(name));
        ASSERT_EQ(found.shape, (std::vector<int64_t>{weight.out_features, weight.in_features}));
        EXPECT_EQ(found.input_scale, weight.input_scale) << name;
        std::vector<float> expected = values_of(weight);
        if (scheme.qformat == std::string("int8_wo")) {
          for (float& value : expected) value = round_to_bf16(value);
        }
        ASSERT_EQ(found.values, expected) << name;
      }
    }
  }
}

TEST_F(TensorRtLlm, AnotherReaderFindsExperts) {
  use_config("Mixtral");
  for (const char* qformat : {"fp8", "int4_awq", "int8_wo"}) {
    QuantizeOptions options = job_of("q.h5", qformat);
    options.awq_block_size = 2;
    options.algo = "rtn";
    options.force = true;
    const auto source = open_weight_source(quantize(options, {}).output);
    const std::string folder =
        exported(source->path(), {2, 2}, std::string("engine-") + qformat).output;
    const auto read = read_with_python({folder}, 3);
    if (read.empty()) GTEST_SKIP() << "no python3 here can import numpy";
    const auto rank = SafetensorsFile::open(folder + "/rank1.safetensors");
    EXPECT_EQ(rank.get("transformer.layers.0.mlp.router.weight").dtype, DType::kF32);
    int64_t experts = 0;
    for (const std::string& name : source->names()) {
      if (!source->is_compressed(name)) continue;
      SCOPED_TRACE(std::string(qformat) + " " + name);
      std::vector<float> expected = values_of(source->compressed(name));
      if (qformat == std::string("int8_wo")) {
        for (float& value : expected) value = round_to_bf16(value);
      }
      EXPECT_EQ(read[0].at(reader_name(name)).values, expected);
      experts += name.find(".experts.") == std::string::npos ? 0 : 1;
    }
    EXPECT_EQ(experts, 2 * 5 * 3);
  }
}

TEST_F(TensorRtLlm, WithoutQuantizationToo) {
  use(llama());
  for (const Ranks& ranks : kRanks) {
    const ExportReport report = exported(path("model"), ranks);
    EXPECT_TRUE(json_of(report.output + "/config.json")["quantization"]["quant_algo"].is_null());
    expect_same(path("model"), report.output, false);
    EXPECT_TRUE(refusals(report.output).empty());
    EXPECT_EQ(mean_kl(path("model"), report.output), 0);
  }
}

TEST_F(TensorRtLlm, EvaluatesAsTheCheckpoint) {
  use(llama());
  for (const TrtScheme& scheme : trt_schemes()) {
    const std::string source = checkpoint(scheme);
    const auto opened = open_weight_source(source);
    bool scaled = false;
    for (const std::string& name : opened->names()) {
      scaled = scaled ||
               (opened->is_compressed(name) && !opened->compressed(name).pre_quant_scale.empty());
    }
    for (const Ranks& ranks : {Ranks{1, 1}, Ranks{5, 2}}) {
      SCOPED_TRACE(label(scheme, ranks));
      const double kl = mean_kl(source, exported(source, ranks).output);
      // Scales of inputs that nothing absorbed are rounded to BF16: one part in 256 at most.
      EXPECT_LE(kl, scaled ? 1e-4 : 0);
    }
  }
}

TEST_F(TensorRtLlm, QueriesKeysAndValuesShareAScaleInFp8) {
  use(llama());
  // Scales of their own, as another tool may have given them.
  const std::string made = checkpoint({"fp8", "FP8"});
  ExportOptions options;
  options.checkpoint = made;
  options.format = "compressed-tensors";
  options.output = path("apart");
  export_to(options, {});
  const std::string file = path("apart/model.safetensors");
  const auto same = open_weight_source(made);
  for (const std::string layer : {"0", "1", "2"}) {
    const std::string attention = "model.layers." + layer + ".self_attn.";
    const float scale = same->compressed(attention + "q_proj.weight").scale[0];
    set_number(file, attention + "k_proj.weight_scale", scale * 0.7F);
    set_number(file, attention + "v_proj.weight_scale", scale * 0.45F);
    set_number(file, attention + "v_proj.input_scale", 3.0F);
  }
  const auto source = open_weight_source(path("apart"));
  const ExportReport report = exported(path("apart"), {5, 1});
  ASSERT_EQ(report.warnings.size(), 3U);
  EXPECT_THAT(report.warnings[0], HasSubstr("different scales"));
  const auto read = read_with_python({report.output}, 5);
  const auto found = open_weight_source(report.output);
  // The value of E4M3 that is nearest, of two the one with an even code.
  const auto nearest = [](float value) {
    float best = 0;
    int best_code = 0;
    for (int code = 0; code < 256; ++code) {
      const float candidate = e4m3_to_f32(static_cast<uint8_t>(code));
      if (!std::isfinite(candidate)) continue;
      const float distance = std::abs(candidate - value);
      const float least = std::abs(best - value);
      if (distance < least || (distance == least && code % 2 == 0 && best_code % 2 != 0)) {
        best = candidate;
        best_code = code;
      }
    }
    return best;
  };
  for (const std::string part : {"q_proj", "k_proj", "v_proj"}) {
    const std::string name = "model.layers.1.self_attn." + part + ".weight";
    const float shared = source->compressed("model.layers.1.self_attn.q_proj.weight").scale[0];
    std::vector<float> expected = values_of(source->compressed(name));
    for (float& value : expected) value = nearest(value * (1.0F / shared)) * shared;
    const CompressedWeight weight = found->compressed(name);
    EXPECT_EQ(values_of(weight), expected) << name;
    EXPECT_EQ(weight.scale, std::vector<float>{shared});
    EXPECT_EQ(weight.input_scale, 3.0F);
    if (!read.empty()) {
      EXPECT_EQ(read[0].at(reader_name(name)).values, expected) << name;
    }
  }
  // A second rounding to FP8 moves the model less than the first one did.
  const double kl = mean_kl(path("apart"), report.output);
  EXPECT_GT(kl, 0);
  EXPECT_LT(kl, mean_kl(path("model"), path("apart")));
}

TEST_F(TensorRtLlm, RepeatsKvHeadsAndPadsTheVocabulary) {
  use(llama());
  const ExportReport ten = exported(path("model"), {10, 1}, "ten");
  EXPECT_TRUE(ten.warnings.empty());
  EXPECT_EQ(json_of(path("ten/config.json")).at("num_key_value_heads"), 5);
  const auto rank = SafetensorsFile::open(path("ten/rank3.safetensors"));
  EXPECT_EQ(rank.get("transformer.vocab_embedding.weight").shape, (Shape{11, 64}));
  EXPECT_EQ(rank.get("lm_head.weight").shape, (Shape{11, 64}));
  EXPECT_EQ(rank.get("transformer.layers.0.attention.qkv.weight").shape, (Shape{48, 64}));
  // Two ranks cannot share five heads.
  const ExportReport two = exported(path("model"), {2, 1}, "two");
  ASSERT_EQ(two.warnings.size(), 1U);
  EXPECT_THAT(two.warnings[0], HasSubstr("5 KV heads"));
  EXPECT_EQ(json_of(path("two/config.json")).at("num_key_value_heads"), 10);
  // Read without the model's own configuration it has as many heads as it says, and is the same.
  std::filesystem::remove(path("two/hf_config.json"));
  const auto source = open_model_files(path("two"));
  EXPECT_EQ(source.graph.blocks[0].attentions[0].shape.kv_heads, 10);
  // Sums of other sizes have another order.
  EXPECT_LT(distance(logits_of(source, Precision::kF32), logits_of(path("model"), Precision::kF32)),
            1e-6);
}

TEST_F(TensorRtLlm, NumbersLayersOnEachPipelineRank) {
  use(llama());
  exported(path("model"), {1, 2});
  const auto first = SafetensorsFile::open(path("engine/rank0.safetensors"));
  const auto last = SafetensorsFile::open(path("engine/rank1.safetensors"));
  EXPECT_TRUE(first.contains("transformer.layers.1.mlp.fc.weight"));
  EXPECT_FALSE(last.contains("transformer.layers.1.mlp.fc.weight"));
  EXPECT_TRUE(first.contains("transformer.vocab_embedding.weight"));
  EXPECT_FALSE(last.contains("transformer.vocab_embedding.weight"));
  EXPECT_TRUE(last.contains("transformer.ln_f.weight"));
  EXPECT_TRUE(last.contains("lm_head.weight"));
  EXPECT_FALSE(first.contains("lm_head.weight"));
}

TEST_F(TensorRtLlm, SeveralFormatsHaveAFileOfTheirOwn) {
  use(llama());
  QuantizeOptions options = job_of("mixed.h5", "int4_awq");
  options.overrides = {{"down_proj", "fp8"}};
  options.exclude = {"layers\\.0\\.mlp\\.gate_proj", "layers\\.0\\.mlp\\.up_proj"};
  const std::string source = quantize(options, {}).output;
  const ExportReport report = exported(source, {5, 1});
  EXPECT_EQ(json_of(path("engine/config.json")).at("quantization").at("quant_algo"),
            "MIXED_PRECISION");
  const json layers = json_of(path("engine/quant_cfg.json")).at("quantized_layers");
  EXPECT_EQ(layers.at("transformer.layers.1.mlp.proj"), json({{"quant_algo", "FP8"}}));
  EXPECT_EQ(layers.at("transformer.layers.0.attention.qkv"), json({{"quant_algo", "W4A16_AWQ"},
                                                                   {"group_size", 16},
                                                                   {"has_zero_point", false},
                                                                   {"pre_quant_scale", true}}));
  EXPECT_FALSE(layers.contains("transformer.layers.0.mlp.fc"));
  expect_same(source, report.output, false);
  EXPECT_TRUE(refusals(report.output).empty());
  // Both pipeline ranks have a layer 0, and they differ.
  const Failure failure = export_failure(source, {1, 2});
  EXPECT_EQ(failure.code, ErrorCode::kInputMalformed);
  EXPECT_THAT(failure.message, HasSubstr("pp_size 1"));
}

TEST_F(TensorRtLlm, CarriesTheCacheOfKeysAndValues) {
  use(llama());
  for (const char* format : {"fp8", "int8"}) {
    QuantizeOptions options = job_of("cache.h5", "fp8");
    options.kv_cache = format;
    options.kv_scales = "head";
    options.force = true;
    const std::string source = quantize(options, {}).output;
    const ExportReport report = exported(source, {5, 1});
    EXPECT_EQ(report.warnings.size(), 2U);
    const json config = json_of(report.output + "/config.json");
    EXPECT_EQ(config.at("quantization").at("kv_cache_quant_algo"),
              format == std::string("fp8") ? "FP8" : "INT8");
    EXPECT_TRUE(refusals(report.output).empty());
    const auto expected = open_weight_source(source);
    const auto found = open_weight_source(report.output);
    for (const std::string layer : {"0", "1", "2"}) {
      const std::string attention = "model.layers." + layer + ".self_attn.";
      float most = 0;
      for (const char* name : {"k_scale", "v_scale"}) {
        for (const float scale : to_f32(expected->dense(attention + name), name)) {
          most = std::max(most, scale);
        }
      }
      const std::string target = "transformer.layers." + layer + ".attention.";
      for (const int rank : {0, 4}) {
        const auto file =
            SafetensorsFile::open(report.output + "/rank" + std::to_string(rank) + ".safetensors");
        EXPECT_EQ(to_f32(file.get(target + "kv_cache_scaling_factor"), ""),
                  std::vector<float>{most});
      }
      EXPECT_EQ(to_f32(found->dense(attention + "k_scale"), ""), std::vector<float>{most});
      EXPECT_TRUE(std::ranges::equal(found->dense(attention + "kv_cache_dtype").bytes,
                                     expected->dense(attention + "kv_cache_dtype").bytes));
    }
  }
}

TEST_F(TensorRtLlm, ThreadsChangeNothing) {
  use(llama());
  const std::string source = checkpoint({"int4_awq", "W4A16_AWQ"});
  const ExportReport two = exported(source, {2, 1});
  ExportOptions options;
  options.checkpoint = source;
  options.format = "tensorrt-llm";
  options.output = path("one");
  options.tp_size = 2;
  options.threads = 1;
  const ExportReport one = export_to(options, {});
  ASSERT_EQ(one.files.size(), two.files.size());
  for (size_t i = 0; i < one.files.size(); ++i) {
    EXPECT_EQ(one.files[i].name, two.files[i].name);
    EXPECT_EQ(one.files[i].sha256, two.files[i].sha256);
  }
}

TEST_F(TensorRtLlm, AFolderOfItIsExportedAgain) {
  use(llama());
  const std::string source = checkpoint({"int4_awq", "W4A16_AWQ"});
  exported(source, {5, 1}, "first");
  exported(path("first"), {2, 1}, "second");
  expect_same(source, path("second"), false);
  exported(path("second"), {5, 1}, "third");
  for (const char* name : {"config.json", "rank0.safetensors", "rank4.safetensors"}) {
    EXPECT_EQ(read_file(path("third/") + name), read_file(path("first/") + name)) << name;
  }
}

}  // namespace
}  // namespace pare::testing
