// Inputs that cannot be compressed are refused by name, and nothing is left behind.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include "formats/weight_source.h"
#include "pare/evaluate.h"
#include "tests/pipeline/pipeline_fixture.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

class Hostile : public PipelineTest {
 protected:
  Hostile() { write({}); }

  // Fails, and leaves the folder as it was.
  Failure refused(const QuantizeOptions& options) const {
    const std::vector<std::string> before = names();
    const Failure failure = failure_of(options);
    EXPECT_EQ(names(), before);
    return failure;
  }

  void fill(const std::string& name, uint16_t bits) {
    ModelTensors tensors = make_tensors(shape_, 11);
    for (uint16_t& value : tensors.at(name).bits) value = bits;
    write_model(path("model"), shape_, tensors);
  }
};

TEST_F(Hostile, WeightsThatAreNotFiniteAreNamed) {
  for (const std::string name :
       {"model.layers.1.mlp.up_proj.weight", "model.layers.0.input_layernorm.weight",
        "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}) {
    for (const uint16_t bits : {0x7fc0, 0x7f80, 0xff80}) {
      ModelTensors tensors = make_tensors(shape_, 11);
      tensors.at(name).bits.back() = bits;
      write_model(path("model"), shape_, tensors);
      for (const char* qformat : {"int4_awq", "int4_wo"}) {
        const Failure failure = refused(job("out.h5", qformat));
        EXPECT_EQ(failure.code, ErrorCode::kNonFinite) << name;
        EXPECT_THAT(failure.message, AllOf(HasSubstr(name), HasSubstr("model.safetensors")));
      }
    }
  }
}

TEST_F(Hostile, ActivationsThatOverflowAreNamed) {
  ModelTensors tensors = make_tensors(shape_, 11);
  for (const char* name : {"mlp.gate_proj.weight", "mlp.up_proj.weight"}) {
    for (uint16_t& bits : tensors.at(std::string("model.layers.0.") + name).bits) bits = 0x7100;
  }
  write_model(path("model"), shape_, tensors);
  for (const char* qformat : {"fp8", "int8_sq", "int4_awq"}) {
    for (const char* sparsity : {"none", "sparsegpt"}) {
      const Failure failure = refused(job("out.h5", qformat, sparsity));
      EXPECT_EQ(failure.code, ErrorCode::kNonFinite) << qformat << sparsity << failure.message;
      EXPECT_THAT(failure.message, HasSubstr("model.layers.0.mlp.")) << qformat << sparsity;
    }
  }
}

TEST_F(Hostile, WeightsOfZeroAndTinyWeightsAreCompressed) {
  for (const uint16_t bits : {0x0000, 0x8001, 0x0080}) {
    for (const std::string name :
         {"model.layers.0.self_attn.v_proj.weight", "model.layers.0.mlp.up_proj.weight",
          "model.layers.0.input_layernorm.weight", "model.layers.1.mlp.down_proj.weight"}) {
      fill(name, bits);
      for (const char* qformat : {"fp8", "int8_sq", "int4_awq", "full_prec"}) {
        const std::string sparsity = qformat == std::string("fp8") ? "none" : "sparsegpt";
        QuantizeOptions options = job("out.h5", qformat, sparsity);
        options.force = true;
        EvaluateOptions evaluation;
        evaluation.baseline = options.model;
        evaluation.candidates = {quantize(options, {}).output};
        evaluation.text = path("calib.ids");
        evaluation.ctx = 24;
        const double divergence = evaluate(evaluation, {})
                                      .candidates[0]
                                      .perplexities.at("perplexity")
                                      .divergence.kl_mean.value;
        EXPECT_TRUE(std::isfinite(divergence)) << name << " " << bits << " " << qformat;
      }
    }
  }
}

// Their rounding brings no noise, so nothing keeps their part of the Gram matrix regular.
TEST_F(Hostile, ChannelsThatAreNeverActive) {
  write_ids(32, 64);
  ModelTensors tensors = make_tensors(shape_, 11);
  for (const char* norm : {"input_layernorm.weight", "post_attention_layernorm.weight"}) {
    std::vector<uint16_t>& bits = tensors.at(std::string("model.layers.0.") + norm).bits;
    bits[0] = bits[3] = bits.back() = 0;
  }
  write_model(path("model"), shape_, tensors);
  for (const char* qformat : {"fp8", "fp8_pc_pt", "fp8_block", "w4a8_awq", "int8_sq", "nvfp4"}) {
    for (const char* sparsity : {"none", "sparsegpt", "admm"}) {
      QuantizeOptions options = job("out.h5", qformat, sparsity);
      options.force = true;
      for (const LayerReport& layer : quantize(options, {}).layers) {
        ASSERT_TRUE(layer.sqnr_db) << layer.name;
        EXPECT_GT(*layer.sqnr_db, 2) << layer.name << " " << qformat << " " << sparsity;
        EXPECT_EQ(layer.fallback.find("noise"), std::string::npos) << layer.fallback;
      }
    }
  }
}

TEST_F(Hostile, ExistingOutputIsKeptUnlessForced) {
  write_file(path("out.h5"), "precious");
  const Failure failure = refused(job("out.h5", "int4_awq"));
  EXPECT_EQ(failure.code, ErrorCode::kWriteFailed);
  EXPECT_THAT(failure.message, AllOf(HasSubstr("out.h5"), HasSubstr("--force")));
  EXPECT_EQ(read_file(path("out.h5")), "precious");
  QuantizeOptions options = job("out.h5", "int4_awq");
  options.force = true;
  Callbacks cancelled;
  cancelled.cancelled = [] { return true; };
  EXPECT_EQ(failure_of(options, cancelled).code, ErrorCode::kInterrupted);
  EXPECT_EQ(read_file(path("out.h5")), "precious");
  EXPECT_GT(quantize(options, {}).bytes, 10000);
}

TEST_F(Hostile, TheModelIsNeverTheOutput) {
  QuantizeOptions options = job("model", "int4_awq");
  for (const std::string& output : {path("model"), path("model") + "/", path("model/../model")}) {
    options.output = output;
    options.force = true;
    const Failure failure = refused(options);
    EXPECT_EQ(failure.code, ErrorCode::kUsage) << output;
    EXPECT_THAT(failure.message, HasSubstr("same"));
  }
  EXPECT_TRUE(fs::exists(path("model/model.safetensors")));
}

TEST_F(Hostile, PlacesThatAreNotThereAreNamed) {
  Failure failure = refused(job("missing/out.h5", "int4_awq"));
  EXPECT_EQ(failure.code, ErrorCode::kWriteFailed);
  EXPECT_THAT(failure.message, HasSubstr("missing"));
  QuantizeOptions options = job("out.h5", "int4_awq");
  options.output.clear();
  EXPECT_EQ(refused(options).code, ErrorCode::kUsage);
  options = job("out.h5", "int4_awq");
  options.model = path("nowhere");
  failure = refused(options);
  EXPECT_EQ(failure.code, ErrorCode::kInputMissing);
  EXPECT_THAT(failure.message, HasSubstr("nowhere"));
  options = job("out.h5", "int4_awq");
  options.calibration = path("nowhere.ids");
  failure = refused(options);
  EXPECT_EQ(failure.code, ErrorCode::kInputMissing);
  EXPECT_THAT(failure.message, HasSubstr("nowhere.ids"));
}

TEST_F(Hostile, ACompressedModelIsNotCompressedAgain) {
  for (const char* first : {"int4_awq", "fp8"}) {
    QuantizeOptions options = job(std::string(first) + ".h5", first);
    options.model = quantize(options, {}).output;
    options.output = path("again.h5");
    options.qformat = "int8_sq";
    const Failure failure = refused(options);
    EXPECT_EQ(failure.code, ErrorCode::kInputMalformed);
    EXPECT_THAT(failure.message, AllOf(HasSubstr("compressed already"), HasSubstr("_proj.weight"),
                                       HasSubstr(options.model)));
  }
}

TEST_F(Hostile, AJobCancelledAtAnyMomentLeavesNothing) {
  for (int polls = 0; polls < 100; ++polls) {
    int left = polls;
    Callbacks callbacks;
    callbacks.cancelled = [&] { return --left < 0; };
    const std::vector<std::string> before = names();
    try {
      quantize(job("out.h5", "int4_awq"), callbacks);
      break;  // Fewer polls than that.
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInterrupted) << error.what();
      EXPECT_EQ(names(), before);
    }
    ASSERT_LT(polls, 99);
  }
}

TEST_F(Hostile, TokenIdsOutsideTheVocabularyAreRefused) {
  write_ids(8, 24, /*vocabulary=*/300);
  const Failure failure = refused(job("out.h5", "int4_awq"));
  EXPECT_EQ(failure.code, ErrorCode::kInputMalformed);
}

class Heads : public PipelineTest {};

TEST_F(Heads, ATiedHeadIsStoredOnce) {
  ModelShape shape;
  shape.tied = true;
  write(shape);
  const auto output = open_weight_source(quantize(job("out.h5", "int8_sq"), {}).output);
  EXPECT_FALSE(output->contains("lm_head.weight"));
  EXPECT_TRUE(output->contains("model.embed_tokens.weight"));
}

TEST_F(Heads, AnUntiedHeadAndWhatTheModelDoesNotUseAreCopied) {
  write({});
  ModelTensors tensors = make_tensors(shape_, 11);
  tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {{3}, {0x3f80, 0x4000, 0x7fc0}};
  write_model(path("model"), shape_, tensors);
  Callbacks callbacks;
  std::vector<std::string> warnings;
  callbacks.on_warning = [&](const std::string& text) { warnings.push_back(text); };
  QuantizeOptions options = job("out.h5", "int8_sq");
  options.awq_block_size = QuantizeOptions{}.awq_block_size;
  const QuantizeReport report = quantize(options, callbacks);
  EXPECT_THAT(report.warnings,
              ::testing::ElementsAre(AllOf(HasSubstr("inv_freq"), HasSubstr("copied"))));
  EXPECT_EQ(warnings, report.warnings);
  const auto model = open_weight_source(path("model"));
  const auto output = open_weight_source(report.output);
  EXPECT_EQ(output->names(), model->names());
  for (const std::string& name : model->names()) {
    if (output->is_compressed(name) || name.find("layernorm") != std::string::npos) continue;
    EXPECT_TRUE(std::ranges::equal(output->dense(name).bytes, model->dense(name).bytes)) << name;
  }
}

}  // namespace
}  // namespace pare::testing
