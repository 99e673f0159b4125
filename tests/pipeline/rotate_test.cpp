// Jobs on a model whose residual stream is rotated first: every format works on the rotated model,
// the checkpoint is the model's own architecture, and it says what was done.
#include <cmath>
#include <filesystem>
#include <map>

#include "eval/evaluated_model.h"
#include "eval/layer_match.h"
#include "formats/safetensors_writer.h"
#include "formats/weight_source.h"
#include "model/rotate_model.h"
#include "tests/pipeline/architecture_fixture.h"
#include "tests/support/model_configs.h"

namespace pare::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class Rotate : public ArchitectureTest {
 protected:
  Rotate() { use(tied_llama(), 32, 24); }

  static nlohmann::json tied_llama() {
    nlohmann::json config = small_llama_config();
    config["tie_word_embeddings"] = true;
    return config;
  }

  QuantizeOptions rotated_job(const std::string& output, const std::string& qformat,
                              const std::string& sparsity = "none",
                              const std::string& rotate = "residual+heads") const {
    QuantizeOptions options = job_of(output, qformat, sparsity);
    options.rotate = rotate;
    return options;
  }

  double divergence_of(const QuantizeOptions& options) const {
    const QuantizeReport report = quantize(options, {});
    const ModelFiles compressed = open_model_files(report.output);
    EXPECT_TRUE(compressed.unused.empty());
    return mean_divergence(logits_of(path("model")), logits_of(compressed, Precision::kBf16),
                           graph_.vocab_size);
  }

  static nlohmann::json recipe_of(const std::string& checkpoint) {
    return nlohmann::json::parse(open_weight_source(checkpoint)->recipe_json());
  }
};

// What is not quantized is rounded to BF16, and nothing else is lost.
TEST_F(Rotate, FullPrecisionIsTheModelUpToRounding) {
  const QuantizeReport report = quantize(rotated_job("out.h5", "full_prec"), {});
  EXPECT_LT(distance(logits_of(report.output, Precision::kF32),
                     logits_of(path("model"), Precision::kF32)),
            0.01);
  const auto source = open_weight_source(report.output);
  for (const std::string& name : source->names()) EXPECT_EQ(source->dtype(name), DType::kBf16);
}

TEST_F(Rotate, EveryFormatWorksOnTheRotatedModel) {
  for (const auto& [qformat, sparsity] :
       std::vector<std::pair<std::string, std::string>>{{"fp8", "none"},
                                                        {"int8_sq", "none"},
                                                        {"int4_awq", "none"},
                                                        {"int4_wo", "none"},
                                                        {"full_prec", "sparsegpt"},
                                                        {"int4_awq", "admm"}}) {
    SCOPED_TRACE(qformat + " " + sparsity);
    const double plain = divergence_of(job_of("plain" + qformat + sparsity, qformat, sparsity));
    const double rotated =
        divergence_of(rotated_job("rotated" + qformat + sparsity, qformat, sparsity));
    // This model has no outliers: rotating it neither helps nor harms much.
    EXPECT_LT(rotated, 3 * plain + 0.002);
    EXPECT_GT(rotated, 0);
  }
}

// Two channels are thirty in every token, as attention sinks are, and are read a thirtieth as much:
// they set the range of the inputs of linears, and say nothing.
TEST_F(Rotate, HelpsWhereTheStreamHasOutliers) {
  MemorySource source = random_model(small_llama_config(), kModelSeed);
  constexpr size_t kWidth = 48;
  for (const std::string& name : source.names()) {
    std::vector<float>& values = source.values(name);
    const bool embedding = name == "model.embed_tokens.weight";
    const bool writer = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
    if (source.shape(name).size() != 2) {
      // Norms would make everything else small.
      for (float& gain : values) gain *= 6;
    }
    if (source.shape(name).size() != 2 || writer) continue;
    for (size_t i = 0; i < values.size(); ++i) {
      if (i % kWidth != 5 && i % kWidth != 30) continue;
      values[i] = embedding ? 30 : values[i] / 30;
    }
  }
  use(source, 8, 24);
  QuantizeOptions plain = job_of("plain.h5", "int8_sq");
  QuantizeOptions rotated = rotated_job("rotated.h5", "int8_sq", "none", "residual");
  plain.smooth = rotated.smooth = false;
  const auto expected = logits_of(path("model"), Precision::kF32);
  double divergence[2] = {};
  double sqnr[2] = {};
  for (const bool rotates : {false, true}) {
    const QuantizeReport report = quantize(rotates ? rotated : plain, {});
    const auto found = logits_of(report.output, Precision::kF32);
    divergence[rotates ? 1 : 0] = mean_divergence(expected, found, graph_.vocab_size);
    for (const char* reader : {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"}) {
      sqnr[rotates ? 1 : 0] += mean_sqnr(report, reader) / 5;
    }
  }
  EXPECT_GT(sqnr[1], sqnr[0] + 3);  // decibel, of the linears that read the stream
  EXPECT_LT(divergence[1], 0.6 * divergence[0]);
}

TEST_F(Rotate, TheCheckpointSaysWhatWasDone) {
  QuantizeOptions options = rotated_job("out.h5", "fp8");
  options.rotate_seed = 5;
  const QuantizeReport report = quantize(options, {});
  EXPECT_EQ(report.rotation.kind, "residual+heads");
  EXPECT_EQ(report.rotation.matrix, "width 48 as 4 x 12, Paley");
  EXPECT_EQ(report.rotation.untied_head_bytes, graph_.vocab_size * graph_.hidden_size * 2);
  const nlohmann::json recipe = recipe_of(report.output);
  EXPECT_EQ(recipe.at("rotate"), "residual+heads");
  EXPECT_EQ(recipe.at("rotate_seed"), 5);
  const EvaluatedModel model = open_model(report.output);
  EXPECT_EQ(rotation_of(model), "residual+heads, seed 5");
  EXPECT_EQ(model.graph.head.matrix, "lm_head.weight");
  EXPECT_EQ(nlohmann::json::parse(model.source->config_json()).at("tie_word_embeddings"), false);
  const QuantizeReport plain = quantize(job_of("plain.h5", "fp8"), {});
  EXPECT_EQ(report.bytes - plain.bytes, report.rotation.untied_head_bytes);
  EXPECT_EQ(plain.rotation.kind, "none");
  EXPECT_EQ(plain.rotation.untied_head_bytes, 0);
  const nlohmann::json json = nlohmann::json::parse(to_json(report));
  EXPECT_EQ(json.at("rotation").at("kind"), "residual+heads");
  EXPECT_EQ(json.at("rotation").at("untied_head_bytes"), report.rotation.untied_head_bytes);
}

TEST_F(Rotate, APlanCountsTheSameBytes) {
  QuantizeOptions options = rotated_job("out.h5", "int4_awq");
  options.dry_run = true;
  const QuantizeReport planned = quantize(options, {});
  options.dry_run = false;
  EXPECT_EQ(planned.bytes, quantize(options, {}).bytes);
}

TEST_F(Rotate, SameBytesForAnyNumberOfThreads) {
  QuantizeOptions options = rotated_job("one.h5", "int4_awq");
  options.threads = 1;
  const std::string one = quantize(options, {}).sha256;
  options.threads = 3;
  options.output = path("three.h5");
  EXPECT_EQ(quantize(options, {}).sha256, one);
  options.rotate_seed = 1;
  options.output = path("other.h5");
  EXPECT_NE(quantize(options, {}).sha256, one);
}

TEST_F(Rotate, GoesOnWhereItStopped) {
  const std::string whole = quantize(rotated_job("whole.h5", "int4_awq"), {}).sha256;
  QuantizeOptions options = rotated_job("out.h5", "int4_awq");
  options.work_dir = path("work");
  Callbacks callbacks;
  callbacks.cancelled = [&] { return fs::exists(path("work/layer-00000.json")); };
  EXPECT_EQ(failure_of(options, callbacks).code, ErrorCode::kInterrupted);
  options.resume = true;
  QuantizeOptions other = options;
  other.rotate_seed = 1;
  EXPECT_EQ(failure_of(other).code, ErrorCode::kUsage);
  other = options;
  other.rotate = "residual";
  EXPECT_EQ(failure_of(other).code, ErrorCode::kUsage);
  EXPECT_EQ(quantize(options, {}).sha256, whole);
}

TEST_F(Rotate, ARecipeMayAskForIt) {
  const QuantizeReport first = quantize(rotated_job("first.h5", "fp8"), {});
  write_file(path("recipe.json"), recipe_of(first.output).dump());
  QuantizeOptions options = job_of("second.h5", "fp8");
  options.recipe = path("recipe.json");
  EXPECT_EQ(quantize(options, {}).sha256, first.sha256);
  options.explicit_options = {"rotate"};
  options.output = path("third.h5");
  EXPECT_EQ(quantize(options, {}).rotation.kind, "none");
}

TEST_F(Rotate, ExpertsInOneTensorAreRotatedToo) {
  for (const char* name : {"Mixtral", "GptOss", "DeepSeek"}) {
    SCOPED_TRACE(name);
    const auto config = nlohmann::json::parse(model_config(name).json);
    use(with_fused_experts(random_model(config, kModelSeed)));
    const ModelFiles model = open_model_files(path("model"));
    const std::vector<std::string>& all = model.source->names();
    // In FP32, where rounding does not move tokens between experts.
    const RotatedModel rotated = rotate_model(model, {.heads = true}, {all.begin(), all.end()});
    EXPECT_LT(
        distance(logits_of(rotated.model, Precision::kF32), logits_of(model, Precision::kF32)),
        1e-4);
    const QuantizeReport report = quantize(rotated_job(std::string(name) + ".h5", "int8_sq"), {});
    EXPECT_TRUE(open_model_files(report.output).unused.empty());
  }
}

TEST_F(Rotate, ASeedWithoutARotationIsWarnedOf) {
  QuantizeOptions options = job_of("out.h5", "fp8");
  options.rotate_seed = 1;
  EXPECT_THAT(quantize(options, {}).warnings,
              ::testing::Contains(HasSubstr("rotate_seed has no effect")));
  options.rotate = "residual";
  options.output = path("other.h5");
  EXPECT_THAT(quantize(options, {}).warnings,
              ::testing::Not(::testing::Contains(HasSubstr("rotate_seed"))));
}

TEST_F(Rotate, WhatCannotBeDoneIsRefusedUpFront) {
  QuantizeOptions options = rotated_job("out.h5", "fp8", "none", "everything");
  EXPECT_EQ(failure_of(options).code, ErrorCode::kUsage);
  use_config("GptTwoByLayer");
  const std::vector<std::string> before = names();
  const Failure failure = failure_of(rotated_job("out.h5", "fp8"));
  EXPECT_EQ(failure.code, ErrorCode::kUsage);
  EXPECT_THAT(failure.message, AllOf(HasSubstr("GPT2LMHeadModel"), HasSubstr("ln_1"),
                                     HasSubstr("mean"), HasSubstr(path("model"))));
  EXPECT_EQ(names(), before);
}

TEST_F(Rotate, ACompressedModelIsRefused) {
  const QuantizeReport report = quantize(job_of("first.h5", "fp8"), {});
  QuantizeOptions options = rotated_job("second.h5", "fp8");
  options.model = report.output;
  const Failure failure = failure_of(options);
  EXPECT_EQ(failure.code, ErrorCode::kInputMalformed);
  EXPECT_THAT(failure.message, HasSubstr("compressed already"));
}

// An adapter that was trained beside the original reads another stream.
TEST_F(Rotate, AnAdapterThatComesLaterIsRefused) {
  const std::string module = "base_model.model.model.layers.0.self_attn.q_proj";
  const std::vector<float> a(48, 0.1F);
  fs::create_directories(path("lora"));
  write_file(path("lora/adapter_config.json"), R"({"peft_type": "LORA", "r": 1, "lora_alpha": 1})");
  const TensorView view{DType::kF32, {1, 48}, std::as_bytes(std::span(a))};
  const TensorView turned{DType::kF32, {48, 1}, std::as_bytes(std::span(a))};
  const std::map<std::string, TensorView> factors = {{module + ".lora_A.weight", view},
                                                     {module + ".lora_B.weight", turned}};
  write_safetensors(path("lora/adapter_model.safetensors"), factors, {}, /*force=*/true);
  const std::string plain = quantize(job_of("plain.h5", "fp8"), {}).output;
  EXPECT_NO_THROW(open_model(plain, path("lora")));
  const std::string rotated = quantize(rotated_job("rotated.h5", "fp8"), {}).output;
  try {
    open_model(rotated, path("lora"));
    ADD_FAILURE() << "the adapter was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInputMalformed);
    EXPECT_THAT(error.what(), HasSubstr("rotated"));
  }
  // Before the rotation it is the model's own.
  for (const char* mode : {"merge", "beside"}) {
    QuantizeOptions options = rotated_job(std::string(mode) + ".h5", "full_prec");
    options.lora = path("lora");
    options.lora_mode = mode;
    const std::string output = quantize(options, {}).output;
    EXPECT_LT(distance(logits_of(output, Precision::kF32),
                       logits_of(path("model"), Precision::kF32, path("lora"))),
              0.01);
  }
}

// No linear of a rotated model fits into one that is not.
TEST_F(Rotate, LayersAreComparedWithARotatedBaselineOnly) {
  const EvaluatedModel original = open_model(path("model"));
  const EvaluatedModel fp8 = open_model(quantize(rotated_job("fp8.h5", "fp8"), {}).output);
  const EvaluatedModel full = open_model(quantize(rotated_job("full.h5", "full_prec"), {}).output);
  EXPECT_THROW(require_same_layers(original, fp8), Error);
  EXPECT_NO_THROW(require_same_layers(full, fp8));
}

}  // namespace
}  // namespace pare::testing
