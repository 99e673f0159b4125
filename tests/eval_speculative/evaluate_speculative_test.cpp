// What evaluate_speculative() measures: against a plain computation, and properties that hold for
// any pair of models.
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "calib/token_source.h"
#include "eval/evaluated_model.h"
#include "model/block_runner.h"
#include "model/model_head.h"
#include "pare/error.h"
#include "tests/eval/plain_model.h"
#include "tests/eval_speculative/speculative_fixture.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

constexpr size_t kWindows = 12;
constexpr size_t kLength = 32;
constexpr size_t kScored = kLength - 1;

struct Windows {
  size_t count = kWindows;
  size_t length = kLength;
};

class EvaluateSpeculativeTest : public SpeculativeTest {};

std::vector<double> softmax(std::span<const float> logits, double temperature) {
  double sum = 0;
  std::vector<double> result;
  const float max = *std::max_element(logits.begin(), logits.end());
  for (const float logit : logits) {
    result.push_back(
        std::exp((static_cast<double>(logit) - static_cast<double>(max)) / temperature));
    sum += result.back();
  }
  for (double& p : result) p /= sum;
  return result;
}

struct PlainAcceptance {
  std::vector<double> sampling;  // [windows, scored]
  std::vector<double> greedy;
};

PlainAcceptance plain_acceptance(const std::string& draft_path, const std::string& target_path,
                                 const std::string& text, double temperature,
                                 const Windows& windows = {}) {
  const EvaluatedModel draft = open_model(draft_path);
  const EvaluatedModel target = open_model(target_path);
  const auto documents = read_documents(text, *target.source, 0, 0);
  PlainAcceptance result;
  for (size_t window = 0; window < windows.count; ++window) {
    const auto ids =
        std::span(documents.documents[0]).subspan(window * windows.length, windows.length);
    const std::vector<float> p_logits = plain_logits(target, ids, Precision::kBf16);
    const std::vector<float> q_logits = plain_logits(draft, ids, Precision::kBf16);
    for (size_t i = 0; i + 1 < windows.length; ++i) {
      const auto row = [&](const EvaluatedModel& model, const std::vector<float>& logits) {
        const auto vocab = static_cast<size_t>(model.graph.vocab_size);
        return std::span(logits).subspan(i * vocab, vocab);
      };
      const auto p_row = row(target, p_logits);
      const auto q_row = row(draft, q_logits);
      const std::vector<double> p = softmax(p_row, temperature);
      const std::vector<double> q = softmax(q_row, temperature);
      double kept = 0;
      for (size_t v = 0; v < std::min(p.size(), q.size()); ++v) kept += std::min(p[v], q[v]);
      result.sampling.push_back(kept);
      const auto best = [](std::span<const float> values) {
        return std::max_element(values.begin(), values.end()) - values.begin();
      };
      result.greedy.push_back(best(p_row) == best(q_row) ? 1 : 0);
    }
  }
  return result;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double accepted(const std::vector<double>& alpha, size_t gamma, const Windows& windows) {
  const size_t scored = windows.length - 1;
  double sum = 0;
  double starts = 0;
  for (size_t w = 0; w < windows.count; ++w) {
    for (size_t i = 0; i + kLongestDraft <= scored; ++i, ++starts) {
      double product = 1;
      for (size_t k = 0; k < gamma; ++k) sum += product *= alpha[w * scored + i + k];
    }
  }
  return sum / starts;
}

void expect_equal(const SpeculativeDecoding& found, const std::vector<double>& alpha,
                  const Windows& windows = {}) {
  EXPECT_NEAR(found.acceptance.value, mean(alpha), 2e-6);
  ASSERT_EQ(found.lengths.size(), static_cast<size_t>(kLongestDraft));
  for (size_t gamma = 1; gamma <= kLongestDraft; ++gamma) {
    EXPECT_NEAR(found.lengths[gamma - 1].accepted.value, accepted(alpha, gamma, windows), 1e-5)
        << "draft length " << gamma;
  }
}

TEST_F(EvaluateSpeculativeTest, AgreesWithPlainSoftmax) {
  const std::string base = make_model("base", 1);
  const std::string int8 = path("int8.h5");
  write_int8_checkpoint(base, int8, R"({"qformat": "int8_wo"})");
  for (const double temperature : {1.0, 0.25, 3.0}) {
    SCOPED_TRACE(temperature);
    SpeculativeOptions wanted = pair({int8}, {base});
    wanted.temperature = temperature;
    const SpeculativeReport report = evaluate_speculative(wanted, {});
    const PlainAcceptance expected = plain_acceptance(int8, base, ids_, temperature);
    ASSERT_EQ(report.pairs.size(), 1U);
    EXPECT_LT(mean(expected.sampling), 0.9999);
    EXPECT_LT(mean(expected.greedy), 1);
    expect_equal(report.pairs[0].sampling, expected.sampling);
    expect_equal(report.pairs[0].greedy, expected.greedy);
    EXPECT_EQ(report.tokens, static_cast<int64_t>(kWindows * kScored));
    EXPECT_EQ(report.starts, static_cast<int64_t>(kWindows * (kScored - 9)));
    EXPECT_EQ(report.windows, static_cast<int64_t>(kWindows));
  }
}

TEST_F(EvaluateSpeculativeTest, AgreesWithPlainSoftmaxOnLongWindows) {
  // More positions than logits are made for at a time.
  constexpr Windows kLong = {.count = 2, .length = 400};
  const std::string base = make_model("base", 1);
  const std::string other = make_model("other", 2);
  SpeculativeOptions wanted = pair({other}, {base});
  wanted.text = make_ids("long.ids", 810, 3);
  wanted.ctx = 400;
  const SpeculativeReport report = evaluate_speculative(wanted, {});
  const PlainAcceptance expected = plain_acceptance(other, base, wanted.text, 1, kLong);
  EXPECT_EQ(report.windows, 2);
  expect_equal(report.pairs[0].sampling, expected.sampling, kLong);
  expect_equal(report.pairs[0].greedy, expected.greedy, kLong);
}

TEST_F(EvaluateSpeculativeTest, PaddedVocabulariesCompareOverWhatIsCommon) {
  const std::string base = make_model("base", 1);
  const std::string padded = path("padded");
  write_padded_copy(base, padded, 64);
  for (const auto& [draft, target] : {std::pair(padded, base), std::pair(base, padded)}) {
    SCOPED_TRACE(draft);
    const SpeculativeReport report = evaluate_speculative(pair({draft}, {target}), {});
    const PlainAcceptance expected = plain_acceptance(draft, target, ids_, 1);
    EXPECT_LT(mean(expected.sampling), 0.995);  // logits of 0 have a share of the probability
    expect_equal(report.pairs[0].sampling, expected.sampling);
    expect_equal(report.pairs[0].greedy, expected.greedy);
    ASSERT_EQ(report.warnings.size(), 1U);
    EXPECT_THAT(report.warnings[0], HasSubstr("W-VOCABULARY: " + draft));
  }
}

void expect_certain(const SpeculativeDecoding& decoding, double cost) {
  EXPECT_EQ(decoding.acceptance.value, 1);
  EXPECT_EQ(decoding.acceptance.standard_error, 0);
  for (int64_t gamma = 1; gamma <= kLongestDraft; ++gamma) {
    const DraftLength& length = decoding.lengths[static_cast<size_t>(gamma - 1)];
    EXPECT_EQ(length.accepted.value, static_cast<double>(gamma));
    EXPECT_EQ(length.accepted_if_iid, static_cast<double>(gamma));
    EXPECT_EQ(length.speedup.value,
              static_cast<double>(gamma + 1) / (static_cast<double>(gamma) * cost + 1));
  }
}

TEST_F(EvaluateSpeculativeTest, AModelAcceptsAllThatItDraftsItself) {
  const std::string base = make_model("base", 1);
  const std::string twin = make_model("twin", 1);  // the same bytes under another name
  for (const std::string& draft : {base, base + "/", twin}) {
    for (const double temperature : {1.0, 0.3}) {
      SpeculativeOptions wanted = pair({draft}, {base});
      wanted.temperature = temperature;
      const SpeculativeReport report = evaluate_speculative(wanted, {});
      expect_certain(report.pairs[0].sampling, 1);
      expect_certain(report.pairs[0].greedy, 1);
      EXPECT_EQ(report.pairs[0].cost, 1);
      EXPECT_EQ(report.pairs[0].sampling.best_draft_length, 0);
      EXPECT_EQ(report.pairs[0].sampling.best_speedup, 1);
    }
  }
  SpeculativeOptions cheap = pair({base}, {base});
  cheap.draft_cost = 0.125;
  const SpeculativeReport report = evaluate_speculative(cheap, {});
  expect_certain(report.pairs[0].sampling, 0.125);
  EXPECT_EQ(report.pairs[0].sampling.best_draft_length, 10);
  EXPECT_EQ(report.pairs[0].sampling.best_speedup, 11 / 2.25);
}

TEST_F(EvaluateSpeculativeTest, GreedyAcceptanceIsTheTopOneAgreementOfAnEvaluation) {
  const std::string base = make_model("base", 1);
  write_int8_checkpoint(base, path("int8.h5"), "{}");
  const SpeculativeReport report = evaluate_speculative(pair({path("int8.h5")}, {base}), {});
  const EvaluateReport evaluated = evaluate(options(base, {path("int8.h5")}), {});
  const Measured& agreement =
      evaluated.candidates[0].perplexities.at("perplexity").divergence.top1_agreement;
  EXPECT_NEAR(report.pairs[0].greedy.acceptance.value, agreement.value, 1e-12);
  EXPECT_EQ(report.ids_sha256, evaluated.tasks[0].ids_sha256);
}

TEST_F(EvaluateSpeculativeTest, ReportsEveryPairAsIfItWereAlone) {
  const std::string base = make_model("base", 1);
  const std::string other = make_model("other", 2);
  const std::string int8 = path("int8.h5");
  write_int8_checkpoint(base, int8, "{}");
  const SpeculativeReport report =
      evaluate_speculative(pair({int8, base, other}, {base, int8}), {});
  ASSERT_EQ(report.pairs.size(), 6U);
  const std::vector<std::string> drafts = {int8, base, other};
  const std::vector<std::string> targets = {base, int8};
  for (size_t p = 0; p < report.pairs.size(); ++p) {
    const SpeculativePair& found = report.pairs[p];
    EXPECT_EQ(found.draft, p / 2);
    EXPECT_EQ(found.target, p % 2);
    const SpeculativeReport alone =
        evaluate_speculative(pair({drafts[found.draft]}, {targets[found.target]}), {});
    EXPECT_EQ(found.sampling.acceptance.value, alone.pairs[0].sampling.acceptance.value);
    EXPECT_EQ(found.greedy.lengths[9].accepted.value,
              alone.pairs[0].greedy.lengths[9].accepted.value);
    EXPECT_EQ(found.cost, alone.pairs[0].cost);
  }
  // Acceptance does not depend on which of the two is the draft.
  EXPECT_NEAR(report.pairs[0].sampling.acceptance.value, report.pairs[3].sampling.acceptance.value,
              1e-6);
  EXPECT_EQ(report.pairs[1].sampling.acceptance.value, 1);
  EXPECT_EQ(report.pairs[2].sampling.acceptance.value, 1);
  // Models that have nothing in common but the vocabulary.
  EXPECT_LT(report.pairs[4].sampling.acceptance.value,
            report.pairs[0].sampling.acceptance.value - 0.1);
}

TEST_F(EvaluateSpeculativeTest, CurvesAreMonotoneAndWithinTheDraftLength) {
  const std::string base = make_model("base", 1);
  const std::string other = make_model("other", 2);
  const SpeculativeReport report = evaluate_speculative(pair({other}, {base}), {});
  for (const SpeculativeDecoding* decoding : {&report.pairs[0].sampling, &report.pairs[0].greedy}) {
    double last = 0;
    for (int64_t gamma = 1; gamma <= kLongestDraft; ++gamma) {
      const Measured& found = decoding->lengths[static_cast<size_t>(gamma - 1)].accepted;
      EXPECT_GE(found.value, last);
      EXPECT_LE(found.value, static_cast<double>(gamma));
      if (found.interval) {
        EXPECT_TRUE(found.interval->contains(found.value));
        EXPECT_GE(found.interval->lower, 0);
        EXPECT_LE(found.interval->upper, static_cast<double>(gamma));
      }
      last = found.value;
    }
  }
  EXPECT_TRUE(report.pairs[0].sampling.acceptance.interval.has_value());
}

TEST_F(EvaluateSpeculativeTest, HotSamplingAcceptsAndColdSamplingIsGreedy) {
  const std::string base = make_model("base", 1);
  const std::string other = make_model("other", 2);
  const auto at = [&](double temperature) {
    SpeculativeOptions wanted = pair({other}, {base});
    wanted.temperature = temperature;
    return evaluate_speculative(wanted, {}).pairs[0];
  };
  EXPECT_GT(at(100).sampling.acceptance.value, 0.98);  // nearly uniform, both
  const SpeculativePair cold = at(0.01);
  EXPECT_NEAR(cold.sampling.acceptance.value, cold.greedy.acceptance.value, 0.05);
  EXPECT_EQ(cold.greedy.acceptance.value, at(100).greedy.acceptance.value);
}

TEST_F(EvaluateSpeculativeTest, SameBytesForAnyThreadsAndPasses) {
  const std::string base = make_model("base", 1);
  const std::string other = make_model("other", 2);
  write_int8_checkpoint(base, path("int8.h5"), "{}");
  SpeculativeOptions wanted = pair({path("int8.h5"), other}, {base});
  wanted.threads = 1;
  const std::string expected = to_json(evaluate_speculative(wanted, {}), false);
  for (const int threads : {2, 3}) {
    wanted.threads = threads;
    EXPECT_EQ(to_json(evaluate_speculative(wanted, {}), false), expected) << threads << " threads";
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
  EXPECT_EQ(to_json(evaluate_speculative(wanted, callbacks), false), expected);
  EXPECT_TRUE(passes) << refused.message;
}

TEST_F(EvaluateSpeculativeTest, MemoryOfEveryModelsLogitsIsPlanned) {
  const std::string base = make_model("base", 1);
  const auto needed = [&](const std::vector<std::string>& drafts) {
    SpeculativeOptions wanted = pair(drafts, {base});
    wanted.max_memory = 1;
    const std::string message = failure_of(wanted).message;
    return std::stoll(message.substr(message.find_first_of("0123456789")));
  };
  const int64_t one = needed({base});
  // 256 rows a thread; a model that is there already needs nothing more.
  const int64_t logits = int64_t{2} * 256 * kTinyVocabulary * 4;
  EXPECT_GE(needed({base, make_model("other", 2)}), one + logits);
  EXPECT_LT(needed({base, base}), one + logits / 100);
}

TEST_F(EvaluateSpeculativeTest, CostIsTheRatioOfTheWeightsThatAStepReads) {
  const std::string base = make_model("base", 1);
  write_int8_checkpoint(base, path("int8.h5"), "{}");
  const SpeculativeReport report = evaluate_speculative(pair({path("int8.h5")}, {base}), {});
  // All but the embedding: the head, two layers, and the last norm.
  const int64_t layer = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 96 * 64 + 2 * 64;
  EXPECT_EQ(report.targets[0].step_bytes, 2 * (4096 * 64 + 2 * layer + 64));
  const SpeculativeModel& draft = report.drafts[0];
  EXPECT_EQ(draft.step_bytes, draft.model.bytes - 2 * 4096 * 64);
  EXPECT_LT(draft.step_bytes, report.targets[0].step_bytes);
  EXPECT_EQ(report.pairs[0].cost, static_cast<double>(draft.step_bytes) /
                                      static_cast<double>(report.targets[0].step_bytes));
}

TEST_F(EvaluateSpeculativeTest, JsonHasEveryFigure) {
  const std::string base = make_model("base", 1);
  write_int8_checkpoint(base, path("int8.h5"), R"({"qformat": "int8_wo", "sparsity": "wanda"})");
  const SpeculativeReport report = evaluate_speculative(pair({path("int8.h5"), base}, {base}), {});
  const Json json = Json::parse(to_json(report));
  EXPECT_EQ(json["schema"], "pare.speculative/1");
  EXPECT_EQ(json["drafts"][0]["qformat"], "int8_wo");
  EXPECT_EQ(json["drafts"][0]["sparsity"], "wanda");
  EXPECT_EQ(json["targets"][0]["name"], "base");
  EXPECT_EQ(json["targets"][0]["step_bytes"], report.targets[0].step_bytes);
  EXPECT_EQ(json["tokens"], kWindows * kScored);
  EXPECT_EQ(json["confidence"], 0.95);
  EXPECT_THAT(json["method"].get<std::string>(), HasSubstr("teacher-forced"));
  EXPECT_THAT(json["method"].get<std::string>(), HasSubstr("over the 264 starts"));
  const Json& first = json["pairs"][0];
  EXPECT_EQ(first["draft"], "int8");
  EXPECT_EQ(first["target_index"], 0);
  const SpeculativeDecoding& sampling = report.pairs[0].sampling;
  EXPECT_EQ(first["sampling"]["acceptance"].get<double>(), sampling.acceptance.value);
  EXPECT_EQ(first["sampling"]["acceptance_ci"][1].get<double>(),
            sampling.acceptance.interval->upper);
  ASSERT_EQ(first["greedy"]["lengths"].size(), 10U);
  const Json& fourth = first["sampling"]["lengths"][3];
  EXPECT_EQ(fourth["draft_length"], 4);
  EXPECT_EQ(fourth["accepted"].get<double>(), sampling.lengths[3].accepted.value);
  EXPECT_EQ(fourth["speedup_se"].get<double>(), sampling.lengths[3].speedup.standard_error);
  EXPECT_EQ(fourth["tokens_per_target_step"].get<double>(), 1 + sampling.lengths[3].accepted.value);
  EXPECT_TRUE(json["pairs"][1]["sampling"]["acceptance_ci"].is_null());
  EXPECT_TRUE(json.contains("timings"));
  EXPECT_FALSE(Json::parse(to_json(report, false)).contains("timings"));
}

TEST_F(EvaluateSpeculativeTest, ProgressReachesTheEndAndNeverGoesBack) {
  const std::string base = make_model("base", 1);
  std::vector<double> shares;
  Callbacks callbacks;
  callbacks.on_progress = [&](const Progress& progress) { shares.push_back(progress.done); };
  evaluate_speculative(pair({base}, {make_model("other", 2)}), callbacks);
  EXPECT_TRUE(std::is_sorted(shares.begin(), shares.end()));
  EXPECT_NEAR(shares.back(), 1, 1e-9);
}

}  // namespace
}  // namespace pare::testing
