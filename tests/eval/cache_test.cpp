// The cache: interrupted evaluations go on, finished parts are not run again, and nothing that
// happens to its files changes a result.
#include <filesystem>

#include "eval/evaluated_model.h"
#include "eval/evaluation_cache.h"
#include "pare/error.h"
#include "tests/eval/eval_fixture.h"
#include "tests/support/small_disk.h"

namespace pare::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class Cache : public EvalTest {
 protected:
  Cache() : base_(make_model("base", 1)), other_(make_model("other", 2)) {
    write_int8_checkpoint(base_, path("int8.h5"), "{}");
    std::string questions;
    for (int i = 0; i < 24; ++i) {
      questions += R"({"question": "What follows )" + std::to_string(i) +
                   R"(?", "choices": ["a tree", "a stone"], "answer": )" + std::to_string(i % 2) +
                   "}\n";
    }
    write_file(path("quiz.jsonl"), questions);
  }

  EvaluateOptions wanted(const std::vector<std::string>& candidates) const {
    EvaluateOptions result = options(base_, candidates);
    result.tasks = {"perplexity", path("quiz.jsonl")};
    result.checkpoint_seconds = 0;  // after every layer
    return result;
  }

  // Runs until it has asked `questions` times whether to go on, which it does in each layer of
  // each model, then interrupts. Returns how often it asked.
  int run(const EvaluateOptions& options, int questions, std::string* json = nullptr) const {
    Callbacks callbacks;
    int asked = 0;
    callbacks.cancelled = [&] { return ++asked > questions; };
    try {
      const EvaluateReport report = evaluate(options, callbacks);
      if (json != nullptr) *json = to_json(report, false);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInterrupted) << error.what();
      EXPECT_GT(asked, questions);
    }
    return asked;
  }
  static constexpr int kNever = 1000000;

  std::vector<std::string> entries(const std::string& cache) const {
    std::vector<std::string> result;
    for (const auto& entry : fs::directory_iterator(cache)) result.push_back(entry.path());
    return result;
  }

  std::string base_;
  std::string other_;
};

TEST_F(Cache, AnInterruptedEvaluationGoesOnFromAnywhere) {
  for (const char* precision : {"bf16", "fp32"}) {
    EvaluateOptions options = wanted({path("int8.h5"), other_});
    options.precision = precision;
    options.limit = 8;
    std::string expected;
    const int all = run(options, kNever, &expected);
    int finished = 0;
    for (int questions = 4; questions < all; questions += all / 5) {
      SCOPED_TRACE(std::string(precision) + " " + std::to_string(questions));
      options.cache = path("cache-" + std::string(precision) + std::to_string(questions));
      EXPECT_EQ(run(options, questions), questions + 1);
      std::string found;
      const int rest = run(options, kNever, &found);
      EXPECT_EQ(found, expected);
      EXPECT_LE(rest, all);
      // What is finished does not run again.
      finished = run(options, kNever, &found);
      EXPECT_EQ(found, expected);
      EXPECT_LT(finished, all / 2);
    }
    options.cache.clear();
    EXPECT_EQ(run(options, kNever), all);
  }
}

TEST_F(Cache, LayersThatAreDoneAreNotRunAgain) {
  EvaluateOptions options = wanted({path("int8.h5"), other_});
  options.tasks = {"perplexity"};
  const int all = run(options, kNever);
  options.cache = path("cache");
  run(options, all - 2);  // in the output head
  const int rest = run(options, kNever);
  const int cached = run(options, kNever);
  EXPECT_LT(cached, rest);
  EXPECT_LE(rest, all - 6);  // two layers of three models, each of which asks
}

TEST_F(Cache, InterruptedBetweenPassesToo) {
  EvaluateOptions options = wanted({other_});
  options.tasks = {"perplexity"};
  const std::string expected = to_json(evaluate(options, {}), false);
  options.max_memory = 1;
  const std::string refused = failure_of(options).message;
  options.max_memory = std::stoll(refused.substr(refused.find_first_of("0123456789")));
  const int all = run(options, kNever);
  for (int questions = all / 5; questions < all; questions += all / 5) {
    options.cache = path("cache" + std::to_string(questions));
    run(options, questions);
    std::string found;
    EXPECT_LT(run(options, kNever, &found), all - questions + 12) << questions;
    EXPECT_EQ(found, expected);
  }
}

TEST_F(Cache, ABaselineServesOtherCandidates) {
  EvaluateOptions options = wanted({path("int8.h5"), other_});
  options.tasks = {"perplexity"};
  std::string expected;
  const int all = run(options, kNever, &expected);
  options.candidates = {path("int8.h5")};
  options.cache = path("cache");
  evaluate(options, {});
  options.candidates = {path("int8.h5"), other_};
  std::string found;
  EXPECT_LT(run(options, kNever, &found), all - 3);  // the layers of two models are not run
  EXPECT_EQ(found, expected);
}

TEST_F(Cache, AnInterruptedRunWithAKnownBaselineGoesOn) {
  EvaluateOptions options = wanted({path("int8.h5")});
  options.tasks = {"perplexity"};
  options.cache = path("cache");
  evaluate(options, {});
  options.candidates = {other_};
  options.cache.clear();
  std::string expected;
  run(options, kNever, &expected);
  options.cache = path("cache");
  for (int questions = 5; questions < 12; ++questions) {
    run(options, questions);
  }
  std::string found;
  run(options, kNever, &found);
  EXPECT_EQ(found, expected);
}

TEST_F(Cache, OtherArithmeticOrTokensAreOtherEntries) {
  EvaluateOptions options = wanted({other_});
  options.tasks = {"perplexity"};
  options.cache = path("cache");
  const int all = run(options, kNever);
  const auto changed = [&](auto change) {
    EvaluateOptions other = options;
    change(other);
    std::string found;
    const int ran = run(other, kNever, &found);
    other.cache.clear();
    std::string expected;
    EXPECT_GT(ran, run(other, kNever, &expected) / 2);
    EXPECT_EQ(found, expected);
  };
  changed([](EvaluateOptions& o) { o.precision = "fp32"; });
  changed([](EvaluateOptions& o) { o.limit = 5; });
  changed([](EvaluateOptions& o) { o.ctx = 24; });
  changed([&](EvaluateOptions& o) { o.baseline = other_; });
  changed([](EvaluateOptions& o) { o.tasks[0] = "perplexity_llama"; });
  // The threads are no part of it.
  options.threads = 1;
  EXPECT_LT(run(options, kNever), all / 2);
}

TEST_F(Cache, DamagedEntriesAreMadeAgain) {
  EvaluateOptions options = wanted({other_});
  options.tasks = {"perplexity"};
  const std::string expected = to_json(evaluate(options, {}), false);
  options.cache = path("cache");
  for (const size_t at : {size_t{0}, size_t{12}, size_t{40}, size_t{1} << 20}) {
    evaluate(options, {});
    for (const std::string& entry : entries(options.cache)) {
      std::string bytes = read_file(entry);
      if (at < bytes.size()) {
        bytes[at] = static_cast<char>(bytes[at] ^ 1);
      } else {
        bytes.resize(bytes.size() - 1);
      }
      write_file(entry, bytes);
    }
    const EvaluateReport report = evaluate(options, {});
    EXPECT_THAT(report.warnings, ::testing::Contains(HasSubstr("W-CACHE"))) << at;
    EvaluateReport unwarned = report;
    unwarned.warnings.clear();
    EXPECT_EQ(to_json(unwarned, false), expected) << at;
  }
}

TEST_F(Cache, AFullDiskIsAWarning) {
  EvaluateOptions options = wanted({other_});
  const std::string expected = to_json(evaluate(options, {}), false);
  const SmallDiskRun run = run_on_small_disk(64 << 10, [&](const std::string& disk) {
    options.cache = disk + "/cache";
    EvaluateReport report = evaluate(options, {});
    EXPECT_THAT(report.warnings, ::testing::Contains(HasSubstr("is not kept")));
    report.warnings.clear();
    EXPECT_EQ(to_json(report, false), expected);
  });
  if (!run.unavailable.empty()) GTEST_SKIP() << run.unavailable;
  EXPECT_EQ(run.status, 0);
}

TEST_F(Cache, AFileInTheFoldersPlaceIsRefused) {
  EvaluateOptions options = wanted({});
  options.cache = path("quiz.jsonl");
  EXPECT_EQ(failure_of(options).code, static_cast<int>(ErrorCode::kWriteFailed));
}

TEST_F(Cache, AnEntryOfAnotherShapeIsNoEntry) {
  EvaluationCache cache(path("cache"));
  std::vector<int32_t> three = {1, 2, 3};
  StateView stored;
  stored.add(three);
  cache.store("a", stored);
  std::vector<int32_t> found(3);
  StateView same;
  same.add(found);
  EXPECT_TRUE(cache.load("a", same));
  EXPECT_EQ(found, three);
  EXPECT_FALSE(cache.load("b", same));
  EXPECT_TRUE(cache.take_warnings().empty());
  std::vector<int32_t> two(2);
  StateView shorter;
  shorter.add(two);
  EXPECT_FALSE(cache.load("a", shorter));
  std::vector<double> wide;
  StateView other;
  other.add_any(wide);
  EXPECT_FALSE(cache.load("a", other));
  EXPECT_EQ(cache.take_warnings().size(), 2U);
  cache.remove("a");
  EXPECT_FALSE(cache.load("a", same));
}

// Checkpoints of equal bytes whose inputs are rounded differently are different models.
TEST_F(Cache, ModelsThatDifferInTheirArithmeticOnlyAreToldApart) {
  write_int8_checkpoint(base_, path("static.h5"), "{}", 1.0F);
  const EvaluatedModel dynamic = open_model(path("int8.h5"));
  const EvaluatedModel fixed = open_model(path("static.h5"));
  EXPECT_NE(describe(dynamic).sha256, describe(fixed).sha256);
  write_int8_checkpoint(base_, path("weights.h5"), "{}", -1.0F);
  EXPECT_NE(describe(dynamic).sha256, describe(open_model(path("weights.h5"))).sha256);
}

TEST_F(Cache, TheBaselineAsItsOwnCandidate) {
  EvaluateOptions options = wanted({base_});
  options.cache = path("cache");
  const std::string first = to_json(evaluate(options, {}), false);
  const EvaluateReport again = evaluate(options, {});
  EXPECT_TRUE(again.warnings.empty());
  EXPECT_EQ(to_json(again, false), first);
}

}  // namespace
}  // namespace pare::testing
