// Jobs that quantize the cache of keys and values.
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "eval/evaluated_model.h"
#include "formats/safetensors_writer.h"
#include "formats/weight_source.h"
#include "model/cache_tensors.h"
#include "tests/pipeline/architecture_fixture.h"
#include "tests/support/model_configs.h"

namespace pare::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CacheJob : public PipelineTest {
 protected:
  CacheJob() {
    ModelShape shape;
    shape.layers = 3;
    write(shape);
  }

  QuantizeOptions cached(const std::string& output, const std::string& kv_cache,
                         const std::string& qformat = "full_prec") const {
    QuantizeOptions options = job(output, qformat);
    options.kv_cache = kv_cache;
    return options;
  }

  static std::string text_of(const WeightSource& source, const std::string& name) {
    const TensorView view = source.dense(name);
    return {reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size()};
  }
};

TEST_F(CacheJob, StoresScalesInTheNamesOfEngines) {
  for (const bool per_head : {true, false}) {
    QuantizeOptions options = cached("out.h5", "fp8");
    options.kv_scales = per_head ? "head" : "tensor";
    options.force = true;
    const QuantizeReport report = quantize(options, {});
    const auto source = open_weight_source(report.output);
    const Shape expected = per_head ? Shape{2, 1, 1} : Shape{1};
    for (int layer = 0; layer < 3; ++layer) {
      const std::string name = "model.layers." + std::to_string(layer) + ".self_attn.";
      EXPECT_EQ(source->shape(name + "k_scale"), expected);
      EXPECT_EQ(source->shape(name + "v_scale"), expected);
      EXPECT_EQ(source->dtype(name + "k_scale"), DType::kF32);
      EXPECT_EQ(text_of(*source, name + "kv_cache_dtype"), "float8_e4m3fn");
      EXPECT_FALSE(source->contains(name + "k_bias"));
    }
    const auto recipe = nlohmann::json::parse(source->recipe_json());
    EXPECT_EQ(recipe.at("kv_cache"), "fp8");
    EXPECT_EQ(recipe.at("kv_scales"), options.kv_scales);
    EXPECT_EQ(recipe.at("kv_affine"), false);
    const EvaluatedModel model = open_model(report.output);
    EXPECT_THAT(model.unused, IsEmpty());
    EXPECT_EQ(describe(model).kv_cache, "fp8");
    EXPECT_EQ(describe(model).parameters, describe(open_model(path("model"))).parameters);
  }
}

TEST_F(CacheJob, ReportsEachAttention) {
  QuantizeOptions options = cached("out.h5", "int8", "int4_awq");
  options.kv_affine = true;
  const QuantizeReport report = quantize(options, {});
  ASSERT_EQ(report.caches.size(), 3U);
  for (size_t layer = 0; layer < 3; ++layer) {
    const CacheReport& cache = report.caches[layer];
    EXPECT_EQ(cache.name, "model.layers." + std::to_string(layer) + ".self_attn");
    EXPECT_EQ(cache.format, "int8");
    EXPECT_EQ(cache.scales, "head");
    EXPECT_TRUE(cache.affine);
    EXPECT_EQ(cache.kv_heads, 2);
    for (const CacheFigures& figures : {cache.keys, cache.values}) {
      EXPECT_LT(figures.minimum, 0);
      EXPECT_GT(figures.maximum, 0);
      EXPECT_EQ(figures.beyond_e4m3, 0);
      ASSERT_TRUE(figures.sqnr_db.has_value());
      EXPECT_GT(*figures.sqnr_db, 30);
    }
  }
  const auto json = nlohmann::json::parse(to_json(report));
  ASSERT_EQ(json.at("kv_caches").size(), 3U);
  EXPECT_EQ(json["kv_caches"][1]["keys"]["sqnr_db"], *report.caches[1].keys.sqnr_db);
}

// Scales are those of the largest magnitude that the compressed layer's own keys have.
TEST_F(CacheJob, GoesWithEveryFormat) {
  for (const auto& [qformat, remark] : qformats()) {
    const QuantizeReport plain = quantize(job("plain" + qformat + ".h5", qformat), {});
    const QuantizeReport report = quantize(cached(qformat + ".h5", "fp8", qformat), {});
    EXPECT_EQ(report.caches.size(), 3U) << qformat;
    const auto found = open_weight_source(report.output);
    const auto expected = open_weight_source(plain.output);
    // The first layer's weights do not see the cache; later ones may.
    for (const std::string& name : expected->names()) {
      if (name.find("layers.0.") == std::string::npos) continue;
      ASSERT_TRUE(found->contains(name)) << name;
      EXPECT_EQ(found->is_compressed(name), expected->is_compressed(name)) << name;
    }
  }
}

TEST_F(CacheJob, LaterLayersAreCalibratedBehindIt) {
  const auto scales_of = [&](const QuantizeReport& report) {
    const auto source = open_weight_source(report.output);
    std::vector<float> scales;
    for (const std::string& name : source->names()) {
      if (source->is_compressed(name)) scales.push_back(source->compressed(name).input_scale);
    }
    return scales;
  };
  const std::vector<float> plain = scales_of(quantize(job("plain.h5", "fp8"), {}));
  EXPECT_NE(scales_of(quantize(cached("cached.h5", "fp8", "fp8"), {})), plain);
  QuantizeOptions original = cached("original.h5", "fp8", "fp8");
  original.uncompressed_inputs = true;
  QuantizeOptions without = job("without.h5", "fp8");
  without.uncompressed_inputs = true;
  EXPECT_EQ(scales_of(quantize(original, {})), scales_of(quantize(without, {})));
}

TEST_F(CacheJob, ThreadsAndResumingGiveTheSameBytes) {
  QuantizeOptions options = cached("whole.h5", "int8", "int4_awq");
  options.kv_affine = true;
  const QuantizeReport whole = quantize(options, {});
  options.output = path("one.h5");
  options.threads = 1;
  EXPECT_EQ(quantize(options, {}).sha256, whole.sha256);
  options.output = path("resumed.h5");
  options.work_dir = path("work");
  Callbacks callbacks;
  callbacks.cancelled = [&] { return fs::exists(path("work/layer-00001.json")); };
  EXPECT_EQ(failure_of(options, callbacks).code, ErrorCode::kInterrupted);
  options.resume = true;
  const QuantizeReport resumed = quantize(options, {});
  EXPECT_EQ(resumed.sha256, whole.sha256);
  ASSERT_EQ(resumed.caches.size(), whole.caches.size());
  for (size_t i = 0; i < whole.caches.size(); ++i) {
    EXPECT_EQ(resumed.caches[i].name, whole.caches[i].name);
    EXPECT_EQ(resumed.caches[i].keys.sqnr_db, whole.caches[i].keys.sqnr_db);
    EXPECT_EQ(resumed.caches[i].values.maximum, whole.caches[i].values.maximum);
  }
}

// A reader of version 1 would evaluate such a checkpoint without its cache.
TEST_F(CacheJob, TheCheckpointSaysVersionTwo) {
  const std::string folder = quantize(cached("cached", "fp8", "fp8"), {}).output;
  const std::string index = fs::path(folder).filename().string() + ".h5.index.json";
  EXPECT_EQ(nlohmann::json::parse(read_file(folder + "/" + index)).at("pare_format_version"), 2);
}

// Statistics in a file are of the linears' inputs; the cache reads the text itself.
TEST_F(CacheJob, GoesWithSeveralFormatsButNotWithSavedStatistics) {
  const auto reports =
      quantize_each(cached("", "int8"), {{"fp8", path("x.h5")}, {"int8_sq", path("y.h5")}}, {});
  for (const QuantizeReport& report : reports) EXPECT_EQ(report.caches.size(), 3U);
  QuantizeOptions options = cached("z.h5", "int8");
  options.stats = path("stats.h5");
  EXPECT_THAT(failure_of(options).message, ::testing::HasSubstr("kv_cache"));
}

TEST_F(CacheJob, ADryRunNamesTheCaches) {
  QuantizeOptions options = cached("out.h5", "fp8");
  options.dry_run = true;
  const QuantizeReport report = quantize(options, {});
  ASSERT_EQ(report.caches.size(), 3U);
  EXPECT_FALSE(report.caches[0].keys.sqnr_db.has_value());
  EXPECT_FALSE(fs::exists(path("out.h5")));
}

TEST_F(CacheJob, WrongOptionsAreRefused) {
  const auto failure = [&](const std::function<void(QuantizeOptions&)>& change) {
    QuantizeOptions options = cached("out.h5", "fp8");
    change(options);
    const Failure found = failure_of(options);
    EXPECT_EQ(found.code, ErrorCode::kUsage);
    return found.message;
  };
  EXPECT_THAT(failure([](auto& o) { o.kv_cache = "int4"; }),
              AllOf(HasSubstr("int4"), HasSubstr("none, fp8 or int8")));
  EXPECT_THAT(failure([](auto& o) { o.kv_scales = "channel"; }),
              AllOf(HasSubstr("channel"), HasSubstr("tensor or head")));
  EXPECT_THAT(failure([](auto& o) { o.calibration.clear(); }),
              AllOf(HasSubstr("kv_cache fp8"), HasSubstr("--calib")));
  const QuantizeReport report = quantize(cached("cached.h5", "fp8"), {});
  for (const char* kv_cache : {"fp8", "none"}) {
    EXPECT_THAT(failure([&](auto& o) {
                  o.model = report.output;
                  o.kv_cache = kv_cache;
                }),
                HasSubstr("quantized already"));
  }
}

TEST_F(CacheJob, OptionsWithoutACacheHaveNoEffect) {
  QuantizeOptions options = job("out.h5", "fp8");
  options.kv_affine = true;
  EXPECT_THAT(quantize(options, {}).warnings, Contains(HasSubstr("kv_affine has no effect")));
}

TEST_F(CacheJob, ATensorOfItsNameIsRefusedUpFront) {
  ModelTensors tensors = make_tensors(shape_, 11);
  tensors["model.layers.1.self_attn.k_scale"] = {{1}, {0x3F80}};
  write_model(path("model"), shape_, tensors);
  const Failure found = failure_of(cached("out.h5", "fp8"));
  EXPECT_EQ(found.code, ErrorCode::kInputMalformed);
  EXPECT_THAT(found.message, HasSubstr("model.layers.1.self_attn.k_scale"));
}

class CacheOf : public ArchitectureTest {
 protected:
  QuantizeReport run(const std::string& config, const std::string& kv_cache = "int8") {
    use_config(config, /*windows=*/20);
    QuantizeOptions options = job_of("out.h5", "full_prec");
    options.kv_cache = kv_cache;
    options.force = true;
    return quantize(options, {});
  }
};

TEST_F(CacheOf, EveryArchitectureWithKeysAndValuesStaysCloseToTheModel) {
  for (const char* config : {"LlamaBiased", "QwenThreeMoe", "GptOss", "FalconOneKeyHead",
                             "GptTwoByLayer", "BloomOldNames", "GemmaTwo", "TFive", "MBart"}) {
    SCOPED_TRACE(config);
    const QuantizeReport report = run(config);
    EXPECT_FALSE(report.caches.empty());
    const ModelFiles files = open_model_files(report.output);
    EXPECT_THAT(files.unused, IsEmpty());
    const auto expected = logits_of(path("model"));
    const auto found = logits_of(report.output);
    EXPECT_NE(found, expected);
    EXPECT_LT(mean_divergence(expected, found, graph_.vocab_size), 0.005);
  }
}

TEST_F(CacheOf, CrossAttentionHasItsOwn) {
  const QuantizeReport report = run("TFive");
  const ModelGraph graph = open_model_files(report.output).graph;
  size_t expected = 0;
  for (const BlockGraph& block : graph.blocks) expected += block.attentions.size();
  EXPECT_EQ(report.caches.size(), expected);
  EXPECT_EQ(expected, 2 * graph.blocks.size());
}

TEST_F(CacheOf, ModelsWithoutOneAreRefused) {
  for (const auto& [config, word] : {std::pair("MambaPlain", "no layer of it keeps keys"),
                                     std::pair("DeepSeek", "latent vector")}) {
    use_config(config);
    QuantizeOptions options = job_of("out.h5", "full_prec");
    options.kv_cache = "fp8";
    const Failure found = failure_of(options);
    EXPECT_EQ(found.code, ErrorCode::kUsage);
    EXPECT_THAT(found.message, AllOf(HasSubstr("kv_cache fp8"), HasSubstr(word)));
    EXPECT_FALSE(fs::exists(path("out.h5")));
  }
}

TEST_F(CacheOf, LayersWithoutOneAreLeftAloneAndSaidSo) {
  const QuantizeReport report = run("JambaWithoutExperts");
  EXPECT_FALSE(report.caches.empty());
  EXPECT_LT(report.caches.size(), graph_.blocks.size());
  EXPECT_THAT(report.warnings,
              Contains(AllOf(HasSubstr("kv_cache int8"), HasSubstr("left alone"))));
}

}  // namespace
}  // namespace pare::testing
