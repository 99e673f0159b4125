// What evaluate() measures: against a plain computation, and properties that hold for any model.
#include <cmath>
#include <nlohmann/json.hpp>

#include "calib/token_source.h"
#include "eval/evaluated_model.h"
#include "pare/error.h"
#include "tests/eval/eval_fixture.h"
#include "tests/eval/plain_model.h"
#include "tests/support/tiny_model.h"

namespace pare::testing {
namespace {

using ::testing::ElementsAre;
using Json = nlohmann::json;

class EvaluateTest : public EvalTest {};

TEST_F(EvaluateTest, AgreesWithPlainLogSoftmax) {
  const std::string base_path = make_model("base", 1);
  write_int8_checkpoint(base_path, path("int8.h5"), R"({"qformat": "int8_wo"})");
  for (const std::string precision : {"bf16", "fp32"}) {
    SCOPED_TRACE(precision);
    EvaluateOptions wanted = options(base_path, {path("int8.h5")});
    wanted.precision = precision;
    const EvaluateReport report = evaluate(wanted, {});

    const EvaluatedModel base = open_model(base_path);
    const EvaluatedModel candidate = open_model(path("int8.h5"));
    const auto documents = read_documents(ids_, *base.source, 0, 0);
    const Precision how = precision == "bf16" ? Precision::kBf16 : Precision::kF32;
    double base_nll = 0;
    double nll = 0;
    double kl = 0;
    double kl_max = 0;
    double agree = 0;
    constexpr size_t kScored = 12 * 31;
    for (size_t window = 0; window < 12; ++window) {
      const auto ids = std::span(documents.documents[0]).subspan(window * 32, 32);
      const std::vector<float> p = plain_logits(base, ids, how);
      const std::vector<float> q = plain_logits(candidate, ids, how);
      for (size_t i = 0; i + 1 < 32; ++i) {
        const auto row = [&](const std::vector<float>& logits) {
          return log_softmax(std::span(logits).subspan(i * kTinyVocabulary, kTinyVocabulary));
        };
        const std::vector<double> log_p = row(p);
        const std::vector<double> log_q = row(q);
        const auto next = static_cast<size_t>(ids[i + 1]);
        base_nll -= log_p[next] / kScored;
        nll -= log_q[next] / kScored;
        double divergence = 0;
        for (size_t v = 0; v < log_p.size(); ++v) {
          divergence += std::exp(log_p[v]) * (log_p[v] - log_q[v]);
        }
        kl += divergence / kScored;
        kl_max = std::max(kl_max, divergence);
        const auto best = [](const std::vector<double>& values) {
          return std::max_element(values.begin(), values.end()) - values.begin();
        };
        agree += best(log_p) == best(log_q) ? 1.0 / kScored : 0.0;
      }
    }
    const PerplexityResult& found = report.candidates[0].perplexities.at("perplexity");
    EXPECT_NEAR(report.baseline.perplexities.at("perplexity").ppl.value, std::exp(base_nll),
                1e-5 * std::exp(base_nll));
    EXPECT_NEAR(found.ppl.value, std::exp(nll), 1e-5 * std::exp(nll));
    EXPECT_NEAR(found.ratio.value, std::exp(nll - base_nll), 1e-6);
    EXPECT_GT(kl, 0);
    EXPECT_NEAR(found.divergence.kl_mean.value, kl, 1e-3 * kl);
    EXPECT_NEAR(found.divergence.kl_max, kl_max, 1e-3 * kl_max);
    EXPECT_NEAR(found.divergence.top1_agreement.value, agree, 1e-9);
    EXPECT_LT(agree, 1);
    EXPECT_EQ(found.tokens, static_cast<int64_t>(kScored));
  }
}

TEST_F(EvaluateTest, SameBytesForAnyThreadsAndPasses) {
  const std::string base = make_model("base", 1);
  const std::string other = make_model("other", 2);
  write_int8_checkpoint(base, path("int8.h5"), "{}");
  for (const char* precision : {"bf16", "fp32"}) {
    SCOPED_TRACE(precision);
    EvaluateOptions wanted = options(base, {path("int8.h5"), other});
    wanted.precision = precision;
    wanted.threads = 1;
    const std::string expected = to_json(evaluate(wanted, {}), false);
    for (const int threads : {2, 3}) {
      wanted.threads = threads;
      EXPECT_EQ(to_json(evaluate(wanted, {}), false), expected) << threads << " threads";
    }
    wanted.threads = 2;
    wanted.max_memory = 1;
    const Failure refused = failure_of(wanted);
    EXPECT_EQ(refused.code, static_cast<int>(ErrorCode::kLimitExceeded));
    const size_t number = refused.message.find_first_of("0123456789");
    wanted.max_memory = std::stoll(refused.message.substr(number));  // two windows a pass
    bool passes = false;
    Callbacks callbacks;
    callbacks.on_progress = [&](const Progress& progress) {
      passes = passes || progress.detail.find("of 6, ") != std::string::npos;
    };
    EXPECT_EQ(to_json(evaluate(wanted, callbacks), false), expected) << refused.message;
    EXPECT_TRUE(passes);
  }
}

TEST_F(EvaluateTest, AModelIsItself) {
  const std::string base = make_model("base", 1);
  const EvaluateReport report = evaluate(options(base, {base}), {});
  const PerplexityResult& found = report.candidates[0].perplexities.at("perplexity");
  EXPECT_EQ(found.ppl.value, report.baseline.perplexities.at("perplexity").ppl.value);
  EXPECT_EQ(found.ratio.value, 1);
  EXPECT_EQ(found.ratio.standard_error, 0);
  EXPECT_EQ(found.divergence.kl_mean.value, 0);
  EXPECT_EQ(found.divergence.kl_max, 0);
  EXPECT_EQ(found.divergence.top1_agreement.value, 1);
  EXPECT_GT(found.ppl.standard_error, 0);
}

TEST_F(EvaluateTest, AModelThatKnowsNothingHasThePerplexityOfItsVocabulary) {
  const std::string base = make_model("base", 1);
  fill_tensor(base + "/model-00002-of-00002.safetensors", "lm_head.weight", 0);
  const EvaluateReport report = evaluate(options(base, {}), {});
  EXPECT_NEAR(report.baseline.perplexities.at("perplexity").ppl.value, kTinyVocabulary, 0.01);
  EXPECT_NEAR(report.baseline.perplexities.at("perplexity").ppl.standard_error, 0, 1e-6);
}

TEST_F(EvaluateTest, ACandidateMayHaveAnotherDepth) {
  const std::string base = make_model("base", 1);
  const std::string shallow = make_model("shallow", 1);
  edit_file(shallow + "/config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
  const EvaluateReport report = evaluate(options(base, {shallow}), {});
  const EvaluateReport alone = evaluate(options(shallow, {}), {});
  EXPECT_EQ(report.candidates[0].perplexities.at("perplexity").ppl.value,
            alone.baseline.perplexities.at("perplexity").ppl.value);
  EXPECT_GT(report.candidates[0].perplexities.at("perplexity").divergence.kl_mean.value, 0.01);
  EXPECT_LT(report.candidates[0].parameters, report.baseline.parameters);
}

TEST_F(EvaluateTest, TheBaselineDoesNotDependOnItsCandidates) {
  const std::string base = make_model("base", 1);
  const std::string other = make_model("other", 2);
  EXPECT_EQ(evaluate(options(base, {}), {}).baseline.perplexities.at("perplexity").ppl.value,
            evaluate(options(base, {other}), {}).baseline.perplexities.at("perplexity").ppl.value);
}

TEST_F(EvaluateTest, LimitTakesTheFirstWindows) {
  const std::string base = make_model("base", 1);
  EvaluateOptions wanted = options(base, {});
  const auto windows = [&](double limit) {
    wanted.limit = limit;
    return evaluate(wanted, {}).baseline.perplexities.at("perplexity").windows;
  };
  EXPECT_EQ(windows(0), 12);
  EXPECT_EQ(windows(5), 5);
  EXPECT_EQ(windows(1), 1);
  EXPECT_EQ(windows(0.25), 3);
  EXPECT_EQ(windows(0.001), 1);
  EXPECT_EQ(windows(1000), 12);
  wanted.limit = 4;
  const EvaluateReport limited = evaluate(wanted, {});
  wanted.limit = 0;
  wanted.text = make_ids("short.ids", 4 * 32, 99);
  const EvaluateReport all = evaluate(wanted, {});
  EXPECT_EQ(limited.tasks[0].ids_sha256, all.tasks[0].ids_sha256);
  EXPECT_EQ(limited.baseline.perplexities.at("perplexity").ppl.value,
            all.baseline.perplexities.at("perplexity").ppl.value);
  EXPECT_EQ(limited.tasks[0].text_tokens, 12 * 32 + 5);
}

TEST_F(EvaluateTest, JsonKeepsItsContract) {
  const std::string base = make_model("base", 1);
  write_int8_checkpoint(base, path("base-int8.h5"),
                        R"({"qformat": "int8_sq", "sparsity": "wanda"})");
  const EvaluateReport report = evaluate(options(base + "/", {path("base-int8.h5")}), {});
  const Json json = Json::parse(to_json(report));
  EXPECT_EQ(json["schema"], "pare.eval/1");
  const Json& baseline = json["baseline"];
  EXPECT_EQ(baseline["name"], "base");
  EXPECT_EQ(baseline["bits_per_weight"], 16.0);
  const int64_t layer = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 96 * 64 + 2 * 64;
  EXPECT_EQ(baseline["parameters"], 2 * 4096 * 64 + 2 * layer + 64);
  const Json& task = baseline["tasks"]["perplexity"];
  EXPECT_EQ(task["tokens"], 12 * 31);
  EXPECT_EQ(task["ppl"].get<double>(),
            report.baseline.perplexities.at("perplexity").ppl.value);  // round trip
  EXPECT_EQ(task["method"],
            "wikitext-style windows: ctx 32, stride 32, tail dropped, BOS once, "
            "positions 1…31 scored");
  EXPECT_FALSE(task.contains("kl_mean"));

  const Json& candidate = json["candidates"][0];
  EXPECT_EQ(candidate["name"], "base-int8");
  EXPECT_EQ(candidate["qformat"], "int8_sq");
  EXPECT_EQ(candidate["sparsity"], "wanda");
  EXPECT_EQ(candidate["kv_cache"], "none");
  EXPECT_LT(candidate["bits_per_weight"], 16);
  EXPECT_LT(candidate["bytes"], baseline["bytes"]);
  for (const char* key : {"ppl", "ppl_se", "tokens", "method", "ppl_ratio", "ppl_ratio_se",
                          "kl_mean", "kl_p99", "kl_max", "top1_agreement"}) {
    EXPECT_TRUE(candidate["tasks"]["perplexity"].contains(key)) << key;
  }
  EXPECT_EQ(json["text_tokens"], 12 * 32 + 5);
  EXPECT_GT(json["timings"]["peak_rss_bytes"], 1 << 20);
  EXPECT_FALSE(Json::parse(to_json(report, false)).contains("timings"));
}

TEST_F(EvaluateTest, ProgressReachesTheEndAndNeverGoesBack) {
  const std::string base = make_model("base", 1);
  std::vector<double> shares;
  std::vector<std::string> phases;
  Callbacks callbacks;
  callbacks.on_progress = [&](const Progress& progress) {
    shares.push_back(progress.done);
    if (phases.empty() || phases.back() != progress.phase) phases.push_back(progress.phase);
  };
  evaluate(options(base, {base}), callbacks);
  EXPECT_TRUE(std::is_sorted(shares.begin(), shares.end()));
  EXPECT_NEAR(shares.back(), 1, 1e-9);
  EXPECT_THAT(phases, ElementsAre("read", "evaluate"));
}

// The view by token class is an extra: a tokenizer that cannot be read costs nothing else.
TEST_F(EvaluateTest, ATokenizerOfNoUseLeavesOutTheClasses) {
  const std::string base = make_model("base", 1);
  write_file(base + "/tokenizer.json", R"({"model": {"type": "Unigram"}})");
  const EvaluateReport report = evaluate(options(base, {base}), {});
  EXPECT_THAT(report.warnings, ::testing::Contains(::testing::HasSubstr("W-CLASSES")));
  const Divergence& found = report.candidates[0].perplexities.at("perplexity").divergence;
  EXPECT_TRUE(found.by_token_class.empty());
  EXPECT_FALSE(found.by_position.empty());
}

TEST_F(EvaluateTest, OneWindowHasNoErrors) {
  const std::string base = make_model("base", 1);
  EvaluateOptions wanted = options(base, {make_model("other", 2)});
  wanted.limit = 1;
  const EvaluateReport report = evaluate(wanted, {});
  const PerplexityResult& found = report.candidates[0].perplexities.at("perplexity");
  for (const Measured& figure :
       {found.ppl, found.ratio, found.divergence.kl_mean, found.divergence.kl_median,
        found.divergence.delta_p_rms, found.divergence.top1_agreement}) {
    EXPECT_FALSE(figure.interval);
    EXPECT_EQ(figure.standard_error, 0);
  }
  EXPECT_THAT(found.verdict, ::testing::HasSubstr("too small"));
  const Json task = Json::parse(to_json(report))["candidates"][0]["tasks"]["perplexity"];
  EXPECT_TRUE(task["kl_mean_se"].is_null());
  EXPECT_TRUE(task["kl_mean_ci"].is_null());
}

}  // namespace
}  // namespace pare::testing
