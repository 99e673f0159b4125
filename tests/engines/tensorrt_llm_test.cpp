// Exports for TensorRT-LLM, read back by pare.
#include "tests/engines/tensorrt_llm_fixture.h"

#include "core/dtype.h"

namespace pare::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class TensorRtLlm : public TensorRtLlmTest {
 protected:
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

TEST_F(TensorRtLlm, CarriesTheCachesOfADecoderThatHasAnEncoder) {
  use_config("TFive");
  QuantizeOptions options = job_of("cache.h5", "fp8");
  options.kv_cache = "fp8";
  const std::string source = quantize(options, {}).output;
  const ExportReport report = exported(source, {1, 2});
  EXPECT_TRUE(json_of(report.output + "/encoder/config.json")["quantization"]["kv_cache_quant_algo"]
                  .is_null());
  EXPECT_EQ(json_of(report.output + "/decoder/config.json")["quantization"]["kv_cache_quant_algo"],
            "FP8");
  EXPECT_TRUE(refusals(report.output).empty());
  const auto found = open_model_files(report.output).source;
  const auto expected = open_model_files(source).source;
  EXPECT_EQ(found->names(), expected->names());
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
