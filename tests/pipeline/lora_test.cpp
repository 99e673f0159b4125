// LoRA adapters through a whole job: merged into the weights, or beside compressed ones, whose
// absorbed scales they have to follow.
#include <cmath>
#include <filesystem>
#include <random>

#include "formats/safetensors_writer.h"
#include "formats/weight_source.h"
#include "tests/pipeline/architecture_fixture.h"
#include "tests/support/model_configs.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;

class Lora : public ArchitectureTest {
 protected:
  static constexpr int64_t kRank = 3;
  static constexpr double kAlpha = 6;  // So that the scale is 2.

  Lora() { use_llama(); }

  void use_llama(const std::string& prefix = "") {
    model_ = rounded(random_model(small_llama_config(), kModelSeed));
    use(prefix.empty() ? model_ : without_prefix(model_, prefix), 16, 24);
  }

  // What BF16 holds.
  static MemorySource rounded(MemorySource source) {
    for (const std::string& name : source.names()) {
      for (float& value : source.values(name)) value = round_to_bf16(value);
    }
    return source;
  }

  static std::vector<std::string> modules(const std::vector<std::string>& kinds) {
    std::vector<std::string> all;
    for (const char* layer : {"model.layers.0.", "model.layers.1."}) {
      for (const std::string& kind : kinds) all.push_back(layer + kind);
    }
    return all;
  }
  static std::vector<std::string> most_modules() {
    return modules({"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                    "mlp.up_proj", "mlp.down_proj"});
  }

  // Adapters whose share of the output is about a third of the weights' own.
  void adapt(const std::vector<std::string>& names) {
    std::mt19937 random(kModelSeed);
    std::normal_distribution<float> normal;
    const auto draw = [&](Shape shape, float deviation) {
      MemoryTensor tensor{std::move(shape), {}};
      tensor.values.resize(static_cast<size_t>(element_count(tensor.shape)));
      for (float& value : tensor.values) value = deviation * normal(random);
      return tensor;
    };
    factors_.clear();
    for (const std::string& name : names) {
      const Shape shape = model_.shape(name + ".weight");
      const float narrow = 1 / std::sqrt(static_cast<float>(shape[1]));
      factors_[name + ".lora_A.weight"] = draw({kRank, shape[1]}, narrow);
      factors_[name + ".lora_B.weight"] = draw({shape[0], kRank}, 0.1F);
    }
    write_adapter(kAlpha);
  }

  void write_adapter(double alpha, const nlohmann::json& more = nlohmann::json::object()) const {
    std::filesystem::create_directories(path("lora"));
    nlohmann::json config = {{"peft_type", "LORA"}, {"r", kRank}, {"lora_alpha", alpha}};
    config.update(more);
    write_file(path("lora/adapter_config.json"), config.dump());
    std::map<std::string, TensorView> views;
    for (const auto& [name, tensor] : factors_) {
      views["base_model.model." + name] = {DType::kF32, tensor.shape,
                                           std::as_bytes(std::span(tensor.values))};
    }
    write_safetensors(path("lora/adapter_model.safetensors"), views, {}, /*force=*/true);
  }

  // W + scale·B·A in FP32.
  MemorySource merged(double scale = kAlpha / kRank) const {
    MemorySource source = model_;
    for (const auto& [name, a] : factors_) {
      if (!name.ends_with(".lora_A.weight")) continue;
      const std::string module = name.substr(0, name.find(".lora_A"));
      const std::vector<float>& b = factors_.at(module + ".lora_B.weight").values;
      std::vector<float>& weight = source.values(module + ".weight");
      const auto in = static_cast<size_t>(a.shape[1]);
      for (size_t i = 0; i < weight.size(); ++i) {
        double sum = 0;
        for (size_t k = 0; k < kRank; ++k) {
          sum += static_cast<double>(b[i / in * kRank + k]) *
                 static_cast<double>(a.values[k * in + i % in]);
        }
        weight[i] = static_cast<float>(static_cast<double>(weight[i]) + scale * sum);
      }
    }
    return source;
  }

  std::vector<std::vector<float>> logits(const MemorySource& source) const {
    return logits_of(bind_model(std::make_shared<MemorySource>(source)), Precision::kF32);
  }

  QuantizeOptions job_with(const std::string& output, const std::string& qformat,
                           const std::string& mode) const {
    QuantizeOptions options = job_of(output, qformat);
    options.lora = path("lora");
    options.lora_mode = mode;
    return options;
  }

  // kInputMalformed, and nothing is left behind.
  void expect_refused(const std::string& part) const {
    const std::vector<std::string> before = names();
    const Failure failure = failure_of(job_with("out.h5", "int8_sq", "beside"));
    EXPECT_EQ(failure.code, ErrorCode::kInputMalformed) << failure.message;
    EXPECT_THAT(failure.message,
                AllOf(HasSubstr("adapter_model.safetensors"), HasSubstr(part), HasSubstr("merge")));
    EXPECT_EQ(names(), before);
  }

  MemorySource model_{""};
  std::map<std::string, MemoryTensor> factors_;
};

TEST_F(Lora, MergedGoesIntoTheWeights) {
  adapt(most_modules());
  const auto found =
      open_weight_source(quantize(job_with("merged.h5", "full_prec", "merge"), {}).output);
  const MemorySource expected = merged();
  EXPECT_EQ(found->names(), model_.names());
  int changed = 0;
  for (const std::string& name : model_.names()) {
    const std::vector<float> values = to_f32(found->dense(name), name);
    const std::vector<float>& wanted = expected.values(name);
    ASSERT_EQ(values.size(), wanted.size()) << name;
    for (size_t i = 0; i < values.size(); ++i) {
      // Half a step of BF16; the sum's own rounding may move a tie.
      ASSERT_NEAR(values[i], wanted[i], std::ldexp(std::abs(wanted[i]), -8) + 1e-6F) << name;
    }
    changed += values == model_.values(name) ? 0 : 1;
  }
  EXPECT_EQ(changed, 12);
}

TEST_F(Lora, BesideFullPrecisionIsTheSumInFp32) {
  adapt(most_modules());
  const QuantizeReport report = quantize(job_with("beside.h5", "full_prec", "beside"), {});
  EXPECT_EQ(report.warnings, quantize(job_of("plain.h5", "full_prec"), {}).warnings);
  const ModelFiles found = open_model_files(report.output);
  EXPECT_TRUE(found.unused.empty());
  const auto expected = logits(merged());
  EXPECT_LT(distance(logits_of(found, Precision::kF32), expected), 1e-5);
  EXPECT_GT(distance(logits(model_), expected), 0.1) << "an adapter without effect";
  // The folder itself with the adapter beside it is the same.
  EXPECT_LT(
      distance(logits_of(path("model"), Precision::kF32, path("lora"), LoraUse::kBeside), expected),
      1e-5);
}

TEST_F(Lora, BesideFollowsAbsorbedScales) {
  adapt(most_modules());
  const auto expected = logits(merged());
  const double without = distance(logits(model_), expected);
  const double wrong = distance(logits(merged(2 * kAlpha / kRank)), expected);
  for (const char* qformat : {"int8_sq", "int4_awq"}) {
    SCOPED_TRACE(qformat);
    QuantizeOptions options = job_with(std::string(qformat) + ".h5", qformat, "beside");
    options.smooth_strength = 0.5;
    const QuantizeReport report = quantize(options, {});
    const ModelFiles found = open_model_files(report.output);
    EXPECT_TRUE(found.unused.empty());
    int moved = 0;
    for (const auto& [name, factor] : factors_) {
      moved += to_f32(found.source->dense(name), name) == factor.values ? 0 : 1;
    }
    EXPECT_GT(moved, 4) << "nothing was absorbed: the test shows nothing";
    const double error = distance(logits_of(found, Precision::kF32), expected);
    const bool int8 = qformat == std::string("int8_sq");
    EXPECT_LT(error, (int8 ? 0.1 : 0.5) * without);
    EXPECT_LT(error, (int8 ? 0.1 : 0.5) * wrong);
  }
}

// A model compressed without its adapter and one with it beside take the same scales only where
// the adapter does not touch what is measured; the adapter must be seen by calibration.
TEST_F(Lora, BesideIsSeenByCalibration) {
  adapt(modules({"self_attn.v_proj"}));
  const auto beside =
      open_weight_source(quantize(job_with("beside.h5", "fp8", "beside"), {}).output);
  const auto plain = open_weight_source(quantize(job_of("plain.h5", "fp8"), {}).output);
  const auto input_scale = [](const WeightSource& source, const std::string& linear) {
    return source.compressed("model.layers.0.self_attn." + linear + ".weight").input_scale;
  };
  EXPECT_EQ(input_scale(*beside, "q_proj"), input_scale(*plain, "q_proj"));
  EXPECT_NE(input_scale(*beside, "o_proj"), input_scale(*plain, "o_proj"));
}

TEST_F(Lora, BesideFollowsTheNamesOfTheModel) {
  adapt(most_modules());
  const auto expected =
      open_weight_source(quantize(job_with("a.h5", "int8_sq", "beside"), {}).output);
  std::filesystem::remove_all(path("model"));
  use_llama("model.");
  const QuantizeReport report = quantize(job_with("b.h5", "int8_sq", "beside"), {});
  EXPECT_THAT(different_tensors(*expected, *open_weight_source(report.output)),
              ::testing::IsEmpty());
}

TEST_F(Lora, BesideIsTheSameForAnyThreadsAndAfterAStop) {
  adapt(most_modules());
  const std::string whole = quantize(job_with("a.h5", "int4_awq", "beside"), {}).sha256;
  QuantizeOptions options = job_with("b.h5", "int4_awq", "beside");
  options.threads = 1;
  options.work_dir = path("work");
  Callbacks callbacks;
  callbacks.cancelled = [&] { return std::filesystem::exists(path("work/layer-00000.json")); };
  EXPECT_EQ(failure_of(options, callbacks).code, ErrorCode::kInterrupted);
  options.resume = true;
  EXPECT_EQ(quantize(options, {}).sha256, whole);
}

TEST_F(Lora, WhatCannotStandBesideIsRefused) {
  adapt(modules({"self_attn.q_proj"}));
  const auto good = factors_;
  for (const char* name : {"model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"}) {
    factors_[std::string(name) + ".lora_magnitude_vector"] = {{48}, std::vector<float>(48, 1.0F)};
  }
  write_adapter(kAlpha, {{"use_dora", true}});
  expect_refused("DoRA");
  factors_ = good;
  factors_["model.embed_tokens.lora_embedding_A"] = {{kRank, 100}, std::vector<float>(300, 0.1F)};
  factors_["model.embed_tokens.lora_embedding_B"] = {{48, kRank}, std::vector<float>(144, 0.1F)};
  write_adapter(kAlpha);
  expect_refused("model.embed_tokens");
  factors_ = good;
  factors_["lm_head.weight"] = {{100, 48}, std::vector<float>(4800, 0.1F)};
  write_adapter(kAlpha);
  expect_refused("lm_head");
  // The head is a matrix like others, but no linear of a block.
  factors_ = good;
  factors_["lm_head.lora_A.weight"] = {{kRank, 48}, std::vector<float>(144, 0.1F)};
  factors_["lm_head.lora_B.weight"] = {{100, kRank}, std::vector<float>(300, 0.1F)};
  write_adapter(kAlpha);
  expect_refused("lm_head");
}

TEST_F(Lora, FactorsOfAnotherWidthAreRefused) {
  for (const auto& [out, in] : {std::pair<int64_t, int64_t>{48, 44}, {52, 48}}) {
    factors_["model.layers.1.self_attn.q_proj.lora_A.weight"] = {
        {kRank, in}, std::vector<float>(static_cast<size_t>(kRank * in), 0.1F)};
    factors_["model.layers.1.self_attn.q_proj.lora_B.weight"] = {
        {out, kRank}, std::vector<float>(static_cast<size_t>(kRank * out), 0.1F)};
    write_adapter(kAlpha);
    for (const char* mode : {"beside", "merge"}) {
      const Failure failure = failure_of(job_with("out.h5", "int8_sq", mode));
      EXPECT_EQ(failure.code, ErrorCode::kInputMalformed);
      EXPECT_THAT(failure.message, HasSubstr("model.layers.1.self_attn.q_proj")) << mode;
    }
  }
}

// A file may hold anything under the name of a factor.
TEST_F(Lora, AFactorThatIsNoMatrixIsNotUsed) {
  MemorySource strange = model_;
  const std::string name = "model.layers.0.self_attn.q_proj.lora_A.weight";
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{1, 1, 1}}) {
    strange.set(name, {shape, {1.0F}});
    EXPECT_THAT(bind_model(std::make_shared<MemorySource>(strange)).unused,
                ::testing::ElementsAre(name));
  }
  strange.set(name, {{1, 1}, {1.0F}});
  EXPECT_THROW(bind_model(std::make_shared<MemorySource>(strange)), Error);
}

TEST_F(Lora, BesideAnExpertIsRefused) {
  const auto config = nlohmann::json::parse(model_config("Mixtral").json);
  model_ = rounded(random_model(config, kModelSeed));
  std::filesystem::remove_all(path("model"));
  use(model_);
  std::vector<std::string> linears;
  for (const BlockGraph& block : graph_.blocks) {
    const BlockGraph expert = expert_block(block, 2);
    linears.push_back(expert.full_name(expert.ops[0]));
  }
  adapt(linears);
  expect_refused(linears[0]);
  EXPECT_NO_THROW(quantize(job_with("merged.h5", "int8_sq", "merge"), {}));
}

TEST_F(Lora, AnUnknownModeIsRefused) {
  adapt(most_modules());
  const Failure failure = failure_of(job_with("out.h5", "fp8", "besides"));
  EXPECT_EQ(failure.code, ErrorCode::kUsage);
  EXPECT_THAT(failure.message, HasSubstr("besides"));
}

}  // namespace
}  // namespace pare::testing
