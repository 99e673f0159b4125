// Models of other architectures than Llama through evaluation: tables of positions that end, models
// that know no limit, experts, adapters, tensors that nothing uses.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include "eval/evaluated_model.h"
#include "formats/checkpoint_writer.h"
#include "pare/error.h"
#include "pare/speculative.h"
#include "tests/eval/any_model.h"
#include "tests/eval/eval_fixture.h"
#include "tests/eval/plain_model.h"
#include "tests/support/tiny_model.h"

namespace pare::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class ArchitecturesTest : public EvalTest {
 protected:
  std::string make(const std::string& name, const std::string& config, uint32_t seed,
                   const nlohmann::json& changes = nlohmann::json::object()) {
    write_any_model(path(name), any_config(config, changes), seed);
    return path(name);
  }

  // So many random ids that every model knows.
  std::string few_ids(int64_t count) {
    std::string text;
    for (int64_t i = 0; i < count; ++i) text += std::to_string((i * i * 7 + i) % 90) + " ";
    write_file(path("few.ids"), text);
    return path("few.ids");
  }

  EvaluateOptions few_options(const std::string& baseline,
                              const std::vector<std::string>& candidates, int64_t count) {
    EvaluateOptions wanted = options(baseline, candidates);
    wanted.text = few_ids(count);
    wanted.ctx = 0;
    return wanted;
  }
};

class WithATable : public ArchitecturesTest, public ::testing::WithParamInterface<const char*> {};

// Tables of positions have 64 rows that count, whatever stands before them.
TEST_P(WithATable, CtxBeyondItIsRefusedBeforeTheTextIsRead) {
  EvaluateOptions wanted = few_options(make("base", GetParam(), 1), {}, 130);
  EvaluateReport report = evaluate(wanted, {});
  EXPECT_EQ(report.tasks[0].ctx, 64);
  EXPECT_EQ(report.tasks[0].windows, 2);
  EXPECT_THAT(report.warnings, Contains(AllOf(HasSubstr("W-CTX"), HasSubstr("instead of 512"))));
  wanted.ctx = 64;
  report = evaluate(wanted, {});
  EXPECT_EQ(report.tasks[0].ctx, 64);
  EXPECT_THAT(report.warnings, Not(Contains(HasSubstr("instead of"))));
  wanted.ctx = 65;
  wanted.text = path("none.txt");
  EXPECT_THAT(failure_of(wanted).message,
              AllOf(HasSubstr("ctx is 65"), HasSubstr("64 tokens"), HasSubstr("base")));
  EXPECT_EQ(failure_of(wanted).code, static_cast<int>(ErrorCode::kUsage));

  SpeculativeOptions speculative;
  speculative.drafts = speculative.targets = {path("base")};
  speculative.text = few_ids(130);
  speculative.ctx = 65;
  try {
    evaluate_speculative(speculative, {});
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_THAT(error.what(), HasSubstr("64 tokens"));
  }
}

INSTANTIATE_TEST_SUITE_P(All, WithATable,
                         ::testing::Values("GptTwoByLayer", "Opt", "BigCodeOneKeyHead"),
                         [](const auto& chosen) { return std::string(chosen.param); });

TEST_F(ArchitecturesTest, TheShortestTableOfAllModelsCounts) {
  const std::string base = make("base", "GptTwoByLayer", 1, {{"n_positions", 80}});
  const std::string other = make("other", "GptTwoByLayer", 1, {{"n_positions", 70}});
  EvaluateOptions wanted = few_options(base, {other}, 160);
  EXPECT_EQ(evaluate(wanted, {}).tasks[0].ctx, 70);
  wanted.ctx = 75;
  EXPECT_THAT(failure_of(wanted).message, AllOf(HasSubstr(other), HasSubstr("70 tokens")));
}

// Examples are left out until a prompt fits the table, though the configuration names no limit.
TEST_F(ArchitecturesTest, PromptsFitTheTable) {
  const std::string base = make("base", "GptTwoByLayer", 1, {{"vocab_size", kTinyVocabulary}});
  write_file(base + "/tokenizer.json", read_file(PARE_SOURCE_DIR "/demo/model/tokenizer.json"));
  std::string questions;
  for (int i = 0; i < 6; ++i) {
    questions += R"({"question": "Which word comes after number )" + std::to_string(i) +
                 R"( here?", "choices": ["a", "b"], "answer": 0})" + "\n";
  }
  write_file(path("quiz.jsonl"), questions);
  write_file(path("quiz_dev.jsonl"), questions);
  EvaluateOptions wanted = options(base, {});
  wanted.tasks = {path("quiz.jsonl")};
  wanted.text.clear();
  wanted.shots = 5;
  const EvaluateReport report = evaluate(wanted, {});
  EXPECT_EQ(report.tasks[0].fewer_shots, 6);
  EXPECT_GT(report.tasks[0].shots, 0);
}

class WithoutALimit : public ArchitecturesTest,
                      public ::testing::WithParamInterface<const char*> {};

TEST_P(WithoutALimit, AnyWindowWillDo) {
  const std::string base = make("base", GetParam(), 1);
  const EvaluateReport report =
      evaluate(few_options(base, {make("other", GetParam(), 2)}, 520), {});
  EXPECT_EQ(report.tasks[0].ctx, 512);
  EXPECT_EQ(report.tasks[0].windows, 1);
  EXPECT_THAT(report.warnings, IsEmpty());
  EXPECT_GT(report.candidates[0].perplexities.at("perplexity").divergence.kl_mean.value, 0);
}

INSTANTIATE_TEST_SUITE_P(All, WithoutALimit,
                         ::testing::Values("MambaBiased", "FalconMamba", "MambaTwo",
                                           "BloomAfterNorm"),
                         [](const auto& chosen) { return std::string(chosen.param); });

// Whatever a model's form, a window's figures are those of a plain run.
class EveryForm : public ArchitecturesTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(EveryForm, AgreesWithAPlainComputation) {
  const std::string base = make("base", GetParam(), 1);
  EvaluateOptions wanted = few_options(base, {make("other", GetParam(), 2)}, 48);
  wanted.ctx = 24;
  wanted.precision = "fp32";
  const EvaluateReport report = evaluate(wanted, {});
  const EvaluatedModel models[] = {open_model(base), open_model(path("other"))};
  const auto vocabulary = static_cast<size_t>(models[0].graph.vocab_size);
  double nll[2] = {0, 0};
  for (int window = 0; window < 2; ++window) {
    std::vector<int32_t> ids;
    for (int64_t i = window * 24; i < window * 24 + 24; ++i) {
      ids.push_back(static_cast<int32_t>((i * i * 7 + i) % 90));
    }
    for (size_t m = 0; m < 2; ++m) {
      const auto logits = plain_logits(models[m], ids, Precision::kF32);
      for (size_t i = 0; i + 1 < ids.size(); ++i) {
        const auto row = log_softmax(std::span(logits).subspan(i * vocabulary, vocabulary));
        nll[m] -= row[static_cast<size_t>(ids[i + 1])] / 46;
      }
    }
  }
  EXPECT_NEAR(std::log(report.baseline.perplexities.at("perplexity").ppl.value), nll[0], 2e-5);
  EXPECT_NEAR(std::log(report.candidates[0].perplexities.at("perplexity").ppl.value), nll[1], 2e-5);
  wanted.threads = 1;
  EXPECT_EQ(to_json(evaluate(wanted, {}), false), to_json(report, false));
}

INSTANTIATE_TEST_SUITE_P(All, EveryForm,
                         ::testing::Values("Mixtral", "DeepSeek", "GptOss", "Jamba", "GemmaTwo",
                                           "LlamaNemotron", "FalconAlibi", "GptTwoByLayer"),
                         [](const auto& chosen) { return std::string(chosen.param); });

TEST_F(ArchitecturesTest, ErrorsByLayerLeaveOutExpertsAndSaySo) {
  const std::string base = make("base", "Mixtral", 1);
  EvaluateOptions wanted = few_options(base, {make("other", "Mixtral", 2)}, 64);
  wanted.ctx = 16;
  wanted.by_layer = true;
  const EvaluateReport report = evaluate(wanted, {});
  const ModelGraph graph = open_model(base).graph;
  int64_t experts = 0;
  for (const BlockGraph& block : graph.blocks) experts += block.experts->count * 3;
  EXPECT_THAT(report.warnings,
              Contains(AllOf(HasSubstr("W-EXPERTS"),
                             HasSubstr(std::to_string(experts) + " linears"), HasSubstr(base))));
  const std::vector<LayerError>& layers = report.candidates[0].layers;
  ASSERT_FALSE(layers.empty());
  for (const LayerError& layer : layers) {
    EXPECT_THAT(layer.name, Not(HasSubstr("experts")));
    EXPECT_GT(layer.kl_mean.value, 0) << layer.name;
  }
  wanted.by_layer = false;
  EXPECT_THAT(evaluate(wanted, {}).warnings, Not(Contains(HasSubstr("W-EXPERTS"))));
}

// In the encoder, in an expert's block, and in what a router says.
TEST_F(ArchitecturesTest, WhatIsNotFiniteIsNamedWithItsModelAndBlock) {
  write_any_model(path("bad"), any_config("Bart"), 2, "model.encoder.layers.0.fc1.bias");
  EvaluateOptions wanted = options(make("base", "Bart", 1), {path("bad")});
  write_pairs(path("pairs.jsonl"), random_pairs(3, 6, 90, 1));
  wanted.text = path("pairs.jsonl");
  wanted.ctx = 0;
  EXPECT_THAT(failure_of(wanted).message,
              AllOf(HasSubstr("bad: model.encoder.layers.0.:"), HasSubstr("fc1.bias")));
  EXPECT_EQ(failure_of(wanted).code, static_cast<int>(ErrorCode::kNonFinite));
  write_any_model(path("bad"), any_config("Mixtral"), 2,
                  "model.layers.1.block_sparse_moe.gate.weight");
  wanted = few_options(make("moe", "Mixtral", 1), {path("bad")}, 64);
  wanted.ctx = 16;
  EXPECT_THAT(failure_of(wanted).message,
              AllOf(HasSubstr("bad: model.layers.1.:"), HasSubstr("router")));
  EXPECT_EQ(failure_of(wanted).code, static_cast<int>(ErrorCode::kNonFinite));
}

TEST_F(ArchitecturesTest, EightUnusedTensorsAreNamedAndAllAreCounted) {
  for (const size_t count : {size_t{8}, size_t{11}}) {
    const std::string base = make_model("base" + std::to_string(count), 1);
    std::map<std::string, Bf16Tensor> extra;
    for (size_t i = 0; i < count; ++i) {
      extra["extra." + std::string(1, static_cast<char>('a' + i))] = {{1}, {0x3f80}};
    }
    write_safetensors(base + "/extra.safetensors", extra);
    // Into the index, so that they are part of the model.
    nlohmann::json index = nlohmann::json::parse(read_file(base + "/model.safetensors.index.json"));
    for (const auto& [name, tensor] : extra) index["weight_map"][name] = "extra.safetensors";
    write_file(base + "/model.safetensors.index.json", index.dump());
    const std::vector<std::string> warnings = evaluate(options(base, {}), {}).warnings;
    ASSERT_EQ(warnings.size(), 1U);
    EXPECT_THAT(warnings[0],
                AllOf(HasSubstr("W-UNUSED"), HasSubstr(std::to_string(count)), HasSubstr("extra.a"),
                      HasSubstr("extra.h"), Not(HasSubstr("extra.i"))));
    EXPECT_EQ(warnings[0].find("and 3 more") != std::string::npos, count > 8);
  }
}

// A LoRA adapter of rank 2 for one linear.
class AdapterTest : public EvalTest {
 protected:
  AdapterTest() : base_(make_model("base", 1)) {
    const std::string module = "base_model.model.model.layers.1.mlp.down_proj.";
    const auto tensor = [](std::vector<int64_t> shape, size_t seed) {
      Bf16Tensor made{std::move(shape), {}};
      for (int64_t i = 0; i < made.shape[0] * made.shape[1]; ++i) {
        const auto sign = static_cast<uint16_t>((static_cast<size_t>(i) * 7 + seed) % 3 == 0);
        made.bits.push_back(static_cast<uint16_t>(0x3e00U | (sign << 15U)));  // ± 0.125
      }
      return made;
    };
    std::filesystem::create_directories(path("adapter"));
    write_safetensors(path("adapter") + "/adapter_model.safetensors",
                      {{module + "lora_A.weight", tensor({2, 96}, 0)},
                       {module + "lora_B.weight", tensor({64, 2}, 1)}});
    write_file(path("adapter") + "/adapter_config.json",
               R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4,)"
               R"( "target_modules": ["down_proj"], "bias": "none"})");
  }

  std::string base_;
};

TEST_F(AdapterTest, IsMergedIntoTheBaseline) {
  EvaluateOptions wanted = options(base_, {base_});
  const EvaluateReport without = evaluate(wanted, {});
  wanted.lora = path("adapter");
  const EvaluateReport merged = evaluate(wanted, {});
  EXPECT_EQ(merged.baseline.name, "base + adapter");
  EXPECT_EQ(merged.candidates[0].name, "base");
  EXPECT_NE(merged.baseline.sha256, without.baseline.sha256);
  const auto kl = [](const EvaluateReport& report) {
    return report.candidates[0].perplexities.at("perplexity").divergence.kl_mean.value;
  };
  EXPECT_EQ(kl(without), 0);
  EXPECT_GT(kl(merged), 0);
  // What the candidate scores does not depend on the baseline's adapter.
  EXPECT_EQ(merged.candidates[0].perplexities.at("perplexity").ppl.value,
            without.candidates[0].perplexities.at("perplexity").ppl.value);
  wanted.candidate_lora = path("adapter");
  EXPECT_EQ(kl(evaluate(wanted, {})), 0);
}

// It stands beside weights that are compressed, and makes up there for what it changes.
TEST_F(AdapterTest, StandsBesideAQuantizedModel) {
  write_int8_checkpoint(base_, path("int8.h5"), "");
  EvaluateOptions wanted = options(base_, {path("int8.h5")});
  wanted.lora = path("adapter");
  const auto candidate = [](const EvaluateReport& report) { return report.candidates[0]; };
  const auto kl = [](const ModelResult& model) {
    return model.perplexities.at("perplexity").divergence.kl_mean.value;
  };
  const ModelResult without = candidate(evaluate(wanted, {}));
  wanted.candidate_lora = path("adapter");
  wanted.by_layer = true;
  const ModelResult beside = candidate(evaluate(wanted, {}));
  EXPECT_EQ(beside.name, "int8 + adapter");
  EXPECT_GT(kl(beside), 0);
  EXPECT_LT(10 * kl(beside), kl(without));
  // The adapter is part of its linear there too: what is left is rounding.
  ASSERT_FALSE(beside.layers.empty());
  for (const LayerError& layer : beside.layers) {
    if (!layer.sqnr_db) continue;
    EXPECT_GT(*layer.sqnr_db, 25) << layer.name;
  }
  wanted.candidate_lora = path("nothing");
  EXPECT_EQ(failure_of(wanted).code, static_cast<int>(ErrorCode::kInputMissing));
}

TEST_F(EvalTest, SpecialTokensInATextAreTextUnlessAskedFor) {
  const std::string base = make_model("base", 1);
  const auto tokenizer = nlohmann::json::parse(read_file(base + "/tokenizer.json"));
  std::string special;
  for (const auto& token : tokenizer.at("added_tokens")) {
    if (token.at("special").get<bool>()) special = token.at("content").get<std::string>();
  }
  ASSERT_FALSE(special.empty());
  std::string text;
  for (int i = 0; i < 20; ++i) text += "some words " + special + " here ";
  write_file(path("special.txt"), text);
  EvaluateOptions wanted = options(base, {});
  wanted.text = path("special.txt");
  const EvaluateReport plain = evaluate(wanted, {});
  wanted.parse_special = true;
  const EvaluateReport parsed = evaluate(wanted, {});
  EXPECT_LT(parsed.tasks[0].text_tokens, plain.tasks[0].text_tokens);
}

}  // namespace
}  // namespace pare::testing
