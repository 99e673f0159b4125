// Encoder-decoder models on pairs of source and target: against a plain computation, what must not
// change a result, and what cannot be done with such models.
#include <algorithm>
#include <cmath>

#include "eval/evaluated_model.h"
#include "pare/error.h"
#include "pare/speculative.h"
#include "tests/eval/any_model.h"
#include "tests/eval/eval_fixture.h"
#include "tests/eval/plain_model.h"

namespace pare::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int32_t kIds = 90;  // below all vocabularies of the configurations
constexpr size_t kPairs = 7;

class PairsTest : public EvalTest {
 protected:
  PairsTest() : pairs_(random_pairs(kPairs, 12, kIds, 5)) {
    write_pairs(path("pairs.jsonl"), pairs_);
  }

  std::string make(const std::string& name, const std::string& config, uint32_t seed,
                   const nlohmann::json& changes = nlohmann::json::object()) {
    write_any_model(path(name), any_config(config, changes), seed);
    return path(name);
  }

  EvaluateOptions pair_options(const std::string& baseline,
                               const std::vector<std::string>& candidates) const {
    EvaluateOptions wanted = options(baseline, candidates);
    wanted.text = path("pairs.jsonl");
    wanted.ctx = 16;
    wanted.precision = "fp32";
    return wanted;
  }

  std::vector<IdPair> pairs_;
};

// What the decoder reads.
std::vector<int32_t> decoder_ids(const ModelGraph& graph, std::vector<int32_t> target) {
  if (graph.decoder_start >= 0) {
    target.insert(target.begin(), graph.decoder_start);
  } else {
    std::rotate(target.begin(), target.end() - 1, target.end());
  }
  return target;
}

struct Sums {
  double base_nll = 0;
  double nll = 0;
  double kl = 0;
  double tokens = 0;
};

Sums plain_sums(const EvaluatedModel& base, const EvaluatedModel& other,
                const std::vector<IdPair>& pairs) {
  Sums sums;
  const auto vocabulary = static_cast<size_t>(base.graph.vocab_size);
  for (const IdPair& pair : pairs) {
    const std::vector<int32_t> ids = decoder_ids(base.graph, pair.target);
    const auto p = plain_logits(base, ids, Precision::kF32, pair.source);
    const auto q = plain_logits(other, ids, Precision::kF32, pair.source);
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto log_p = log_softmax(std::span(p).subspan(i * vocabulary, vocabulary));
      const auto log_q = log_softmax(std::span(q).subspan(i * vocabulary, vocabulary));
      const auto next = static_cast<size_t>(ids[i + 1]);
      sums.base_nll -= log_p[next];
      sums.nll -= log_q[next];
      sums.tokens += 1;
      for (size_t v = 0; v < vocabulary; ++v) {
        sums.kl += std::exp(log_p[v]) * (log_p[v] - log_q[v]);
      }
    }
  }
  return sums;
}

class EveryEncoder : public PairsTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(EveryEncoder, AgreesWithAPlainComputation) {
  if (GetParam() ==
      std::string("MBart")) {  // a target of one token has nothing behind its language
    for (IdPair& pair : pairs_) pair.target.push_back(7);
    write_pairs(path("pairs.jsonl"), pairs_);
  }
  const std::string base = make("base", GetParam(), 1);
  const std::string other = make("other", GetParam(), 2);
  const EvaluateReport report = evaluate(pair_options(base, {other, base}), {});
  const Sums sums = plain_sums(open_model(base), open_model(other), pairs_);
  const PerplexityResult& found = report.candidates[0].perplexities.at("perplexity");
  const double base_ppl = report.baseline.perplexities.at("perplexity").ppl.value;
  EXPECT_NEAR(std::log(base_ppl), sums.base_nll / sums.tokens, 2e-5);
  EXPECT_NEAR(std::log(found.ppl.value), sums.nll / sums.tokens, 2e-5);
  EXPECT_GT(sums.kl, 0.01);
  EXPECT_NEAR(found.divergence.kl_mean.value / (sums.kl / sums.tokens), 1, 1e-4);
  EXPECT_EQ(report.candidates[1].perplexities.at("perplexity").divergence.kl_mean.value, 0);
  const TaskReport& task = report.tasks.at(0);
  EXPECT_EQ(task.tokens, static_cast<int64_t>(sums.tokens));
  EXPECT_EQ(task.windows, static_cast<int64_t>(kPairs));
  EXPECT_EQ(task.ctx, 16);
  EXPECT_THAT(task.method, AllOf(HasSubstr("source and target"), HasSubstr("teacher-forced"),
                                 HasSubstr("0 of 7 pairs")));
  EXPECT_THAT(report.warnings, IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(All, EveryEncoder,
                         ::testing::Values("TFive", "TFiveGated", "MTFive", "Bart", "MBart",
                                           "Fsmt"),
                         [](const auto& chosen) { return std::string(chosen.param); });

TEST_F(PairsTest, ThreadsPassesAndCacheDoNotMatter) {
  const std::string base = make("base", "TFive", 1);
  const std::string other = make("other", "TFive", 2);
  const std::string third = make("third", "TFive", 3);
  for (const std::string precision : {"fp32", "bf16"}) {
    EvaluateOptions wanted = pair_options(base, {other, third});
    wanted.precision = precision;
    wanted.threads = 1;
    const std::string expected = to_json(evaluate(wanted, {}), false);
    wanted.threads = 3;
    EXPECT_EQ(to_json(evaluate(wanted, {}), false), expected);
    // As little memory as it says that it needs, for which it takes more passes.
    wanted.max_memory = 1;
    const std::string message = failure_of(wanted).message;
    wanted.max_memory = std::stoll(message.substr(message.find("needs ") + 6));
    EXPECT_EQ(to_json(evaluate(wanted, {}), false), expected);
    wanted.max_memory = 0;
    // The baseline's states are kept from a run with another candidate; the encoder runs again.
    wanted.cache = path("cache-" + precision);
    EvaluateOptions earlier = wanted;
    earlier.candidates = {other};
    evaluate(earlier, {});
    EXPECT_EQ(to_json(evaluate(wanted, {}), false), expected);
    EXPECT_EQ(to_json(evaluate(wanted, {}), false), expected);
  }
}

TEST_F(PairsTest, InterruptedRunsGoOn) {
  const std::string base = make("base", "Bart", 1);
  EvaluateOptions wanted = pair_options(base, {make("other", "Bart", 2)});
  wanted.threads = 1;  // so that the number of questions below does not vary
  int questions = 0;
  int last = INT32_MAX;
  Callbacks callbacks;
  callbacks.cancelled = [&] { return ++questions > last; };
  const std::string expected = to_json(evaluate(wanted, callbacks), false);
  const int all = questions;
  ASSERT_GT(all, 15);
  wanted.checkpoint_seconds = 0;
  for (const int percent : {60, 75, 90}) {
    SCOPED_TRACE(percent);
    wanted.cache = path("cache-" + std::to_string(percent));
    questions = 0;
    last = all * percent / 100;
    EXPECT_EQ(failure_of(wanted, callbacks).code, static_cast<int>(ErrorCode::kInterrupted));
    EXPECT_EQ(to_json(evaluate(wanted, {}), false), expected);
  }
}

TEST_F(PairsTest, CtxCutsAndLimitTakesTheFirst) {
  const std::string base = make("base", "TFive", 1);
  EvaluateOptions wanted = pair_options(base, {});
  wanted.ctx = 5;
  const EvaluateReport cut = evaluate(wanted, {});
  int64_t scored = 0;
  int64_t longer = 0;
  for (const IdPair& pair : pairs_) {
    const auto target = static_cast<int64_t>(pair.target.size());
    scored += std::min<int64_t>(target, 4);
    longer += target > 4 || pair.source.size() > 5 ? 1 : 0;
  }
  ASSERT_GT(longer, 0);
  EXPECT_EQ(cut.tasks[0].tokens, scored);
  EXPECT_THAT(cut.tasks[0].method, HasSubstr(std::to_string(longer) + " of 7 pairs were longer"));

  wanted = pair_options(base, {});
  wanted.limit = 3;
  const EvaluateReport first = evaluate(wanted, {});
  write_pairs(path("pairs.jsonl"), {pairs_.begin(), pairs_.begin() + 3});
  wanted.limit = 0;
  const EvaluateReport short_file = evaluate(wanted, {});
  EXPECT_EQ(first.tasks[0].ids_sha256, short_file.tasks[0].ids_sha256);
  EXPECT_EQ(first.baseline.perplexities.at("perplexity").ppl.value,
            short_file.baseline.perplexities.at("perplexity").ppl.value);
}

TEST_F(PairsTest, TablesOfPositionsLimitTheLength) {
  EvaluateOptions wanted = pair_options(make("base", "Bart", 1), {});
  wanted.ctx = 65;
  const Failure failure = failure_of(wanted);
  EXPECT_EQ(failure.code, static_cast<int>(ErrorCode::kUsage));
  EXPECT_THAT(failure.message, AllOf(HasSubstr("ctx is 65"), HasSubstr("64"), HasSubstr("base")));
  wanted.ctx = 0;
  const EvaluateReport report = evaluate(wanted, {});
  EXPECT_EQ(report.tasks[0].ctx, 64);
  EXPECT_THAT(report.warnings,
              ElementsAre(AllOf(HasSubstr("W-CTX"), HasSubstr("64"), HasSubstr("512"))));
  wanted.baseline = make("t5", "TFive", 1);  // has no table
  EXPECT_EQ(evaluate(wanted, {}).tasks[0].ctx, 512);
}

TEST_F(PairsTest, OtherTasksAreRefusedByName) {
  const std::string base = make("base", "Bart", 1);
  write_file(path("quiz.jsonl"), R"({"question": "a?", "choices": ["b", "c"], "answer": 0})");
  for (const std::string& task : {std::string("perplexity_gptq"), std::string("perplexity_llama"),
                                  std::string("perplexity_strided"), path("quiz.jsonl")}) {
    EvaluateOptions wanted = pair_options(base, {});
    wanted.tasks = {task};
    const Failure failure = failure_of(wanted);
    EXPECT_EQ(failure.code, static_cast<int>(ErrorCode::kUsage)) << failure.message;
    EXPECT_THAT(failure.message,
                AllOf(HasSubstr(task), HasSubstr(base), HasSubstr("BartForConditionalGeneration")));
  }
  EvaluateOptions wanted = pair_options(base, {base});
  wanted.by_layer = true;
  EXPECT_THAT(failure_of(wanted).message, AllOf(HasSubstr("--by-layer"), HasSubstr(base)));
  SpeculativeOptions speculative;
  speculative.drafts = speculative.targets = {base};
  speculative.text = path("pairs.jsonl");
  try {
    evaluate_speculative(speculative, {});
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("speculative"), HasSubstr(base)));
  }
}

TEST_F(PairsTest, TextsAndOtherModelsAreRefused) {
  const std::string base = make("base", "TFive", 1);
  EvaluateOptions wanted = pair_options(base, {});
  wanted.text = ids_;
  EXPECT_THAT(failure_of(wanted).message, AllOf(HasSubstr("text.ids"), HasSubstr("\"target\"")));
  const int64_t vocabulary = open_model(base).graph.vocab_size;
  const std::string plain = make("plain", "Mistral", 1, {{"vocab_size", vocabulary}});
  for (const auto& [first, second] : {std::pair(base, plain), std::pair(plain, base)}) {
    const Failure failure = failure_of(pair_options(first, {second}));
    EXPECT_EQ(failure.code, static_cast<int>(ErrorCode::kInputMalformed));
    EXPECT_THAT(failure.message, AllOf(HasSubstr(first), HasSubstr(second), HasSubstr("encoder")));
  }
  const std::string fsmt = make("fsmt", "Fsmt", 1);
  const std::string other = make("fsmt2", "Fsmt", 1, {{"src_vocab_size", 99}});
  EXPECT_THAT(failure_of(pair_options(fsmt, {other})).message,
              AllOf(HasSubstr("99 for sources"), HasSubstr("97")));
}

}  // namespace
}  // namespace pare::testing
