// Tasks of questions through tiny models: what may change the result, and what must not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "calib/token_source.h"
#include "eval/choice_scores.h"
#include "eval/memory_plan.h"
#include "pare/error.h"
#include "tests/eval/eval_fixture.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;

class ChoiceTask : public EvalTest {
 protected:
  ChoiceTask() : base_(make_model("base", 1)), other_(make_model("other", 2)) {
    for (int i = 0; i < 40; ++i) {
      const std::string n = std::to_string(i);
      const nlohmann::json line = {
          {"question", "Which of these words comes after the number " + n + " in the old list?"},
          {"choices", {"a tree", "a stone", "some river bed " + n, "birds"}},
          {"answer", i % 4},
          {"subject", i % 3 == 0 ? "odd" : "even"}};
      questions_ += line.dump() + "\n";
    }
    write_file(path("quiz.jsonl"), questions_);
    write_file(path("quiz_dev.jsonl"), questions_.substr(0, questions_.find('\n', 4000) + 1));
  }

  EvaluateOptions quiz(const std::vector<std::string>& candidates) const {
    EvaluateOptions wanted = options(base_, candidates);
    wanted.tasks = {path("quiz.jsonl")};
    wanted.text.clear();
    wanted.keep_samples = true;
    return wanted;
  }

  std::string base_;
  std::string other_;
  std::string questions_;
};

TEST_F(ChoiceTask, ThreadsDoNotMatter) {
  EvaluateOptions wanted = quiz({other_});
  wanted.threads = 1;
  const EvaluateReport one = evaluate(wanted, {});
  EXPECT_EQ(one.tasks.at(0).name, "quiz");
  EXPECT_EQ(one.baseline.choices.at("quiz").accuracy.n, 40);
  for (const int threads : {2, 3}) {
    wanted.threads = threads;
    const EvaluateReport more = evaluate(wanted, {});
    EXPECT_EQ(to_json(more, false), to_json(one, false));
    EXPECT_EQ(more.tasks[0].samples_jsonl, one.tasks[0].samples_jsonl);
  }
}

TEST_F(ChoiceTask, SharingAPrefixChangesNothingButTheWork) {
  EvaluateOptions wanted = quiz({});
  wanted.shots = 3;
  const EvaluateReport shared = evaluate(wanted, {});
  wanted.reuse_prefix = false;
  const EvaluateReport whole = evaluate(wanted, {});
  EXPECT_EQ(shared.tasks[0].samples_jsonl, whole.tasks[0].samples_jsonl);
  EXPECT_EQ(shared.tasks[0].ids_sha256, whole.tasks[0].ids_sha256);
  EXPECT_EQ(shared.tasks[0].shots, 3);
  EXPECT_LT(2 * shared.tasks[0].tokens_run, whole.tasks[0].tokens_run);
}

TEST_F(ChoiceTask, AModelAgainstItselfLosesNothing) {
  const EvaluateReport report = evaluate(quiz({base_}), {});
  const ChoiceResult& result = report.candidates.at(0).choices.at("quiz");
  EXPECT_EQ(result.difference.value, 0);
  EXPECT_EQ(result.relative_loss.value, 0);
  EXPECT_EQ(result.relative_loss.interval->upper, 0);
  EXPECT_EQ(result.lost + result.gained, 0);
  EXPECT_EQ(result.mcnemar_p, 1);
  EXPECT_FALSE(result.verdict.empty());
  EXPECT_EQ(to_json(report).find("nan"), std::string::npos);
  EXPECT_EQ(to_json(report).find("null"), std::string::npos);
}

TEST_F(ChoiceTask, AnotherModelAnswersOtherwise) {
  // Choices of about equal length, between which random weights decide.
  std::string even;
  for (int i = 0; i < 60; ++i) {
    const nlohmann::json line = {
        {"question", "Which letter comes after number " + std::to_string(i)},
        {"choices", {"a", "b", "c", "d"}},
        {"answer", i % 4},
        {"subject", i % 3 == 0 ? "odd" : "even"}};
    even += line.dump() + "\n";
  }
  write_file(path("even.jsonl"), even);
  EvaluateOptions wanted = quiz({other_});
  wanted.tasks = {path("even.jsonl")};
  const EvaluateReport report = evaluate(wanted, {});
  const ChoiceResult& base = report.baseline.choices.at("even");
  const ChoiceResult& other = report.candidates.at(0).choices.at("even");
  EXPECT_GT(other.lost + other.gained, 0);
  EXPECT_EQ(other.accuracy.right, base.accuracy.right - other.lost + other.gained);
  ASSERT_EQ(other.groups.size(), 2U);
  EXPECT_EQ(other.groups[0].second.n + other.groups[1].second.n, 60);
  EXPECT_LE(other.difference.interval->lower, other.difference.value);
  EXPECT_GE(other.difference.interval->upper, other.difference.value);
}

// The log-likelihood of a continuation is that of its tokens in the text as a whole.
TEST_F(ChoiceTask, LikelihoodsAreThoseOfThePlainText) {
  const std::vector<EvaluatedModel> models = [&] {
    std::vector<EvaluatedModel> one;
    one.push_back(open_model(base_));
    return one;
  }();
  const Tokenizer tokenizer = load_tokenizer(*models[0].source);
  const Task task = read_task(path("quiz.jsonl"), "", {.shots = 2});
  const PromptPlan plan = plan_prompts(task, tokenizer, {.max_positions = 512});
  ThreadPool pool(2);
  const Callbacks none;
  ProgressMeter meter(none, 0);
  const std::vector<size_t> heads = shared_heads(models);
  ChoiceSetup setup{.precision = Precision::kBf16, .heads = heads};
  const ChoiceScores scores = score_choices(models, plan, setup, pool, meter)[0];
  // Passes of a unit each give the same.
  setup.pass_bytes = 1;
  EXPECT_EQ(score_choices(models, plan, setup, pool, meter)[0].log_likelihood,
            scores.log_likelihood);

  for (const size_t i : {size_t{0}, size_t{17}, size_t{39}}) {
    const PlannedItem& planned = plan.items[i];
    const TaskGroup& group = task.groups[planned.group];
    const TaskItem& item = group.items[planned.item];
    std::string prompt = group.header;
    for (const std::string& example : group.examples) prompt += example;
    prompt += item.question;
    const auto context = tokenizer.encode(prompt, true);
    for (size_t c = 0; c < item.choices.size(); ++c) {
      const auto ids = tokenizer.encode(prompt + item.choices[c].continuation, true);
      std::string text;
      for (const int32_t id : ids) text += std::to_string(id) + " ";
      write_file(path("one.ids"), text);
      EvaluateOptions wanted = options(base_, {});
      wanted.text = path("one.ids");
      wanted.ctx = static_cast<int64_t>(ids.size());
      const PerplexityResult all = evaluate(wanted, {}).baseline.perplexities.at("perplexity");
      wanted.ctx = static_cast<int64_t>(context.size());
      wanted.limit = 1;
      const PerplexityResult before = evaluate(wanted, {}).baseline.perplexities.at("perplexity");
      const double expected = -std::log(all.ppl.value) * static_cast<double>(ids.size() - 1) +
                              std::log(before.ppl.value) * static_cast<double>(context.size() - 1);
      EXPECT_NEAR(scores.log_likelihood[planned.first_choice + c], expected, 1e-3) << i << " " << c;
      EXPECT_EQ(scores.tokens[planned.first_choice + c],
                static_cast<int32_t>(ids.size() - context.size()));
    }
  }
}

TEST_F(ChoiceTask, AQuestionThatNeverFitsIsNamed) {
  std::string longer;
  for (int i = 0; i < 600; ++i) longer += "word ";
  const nlohmann::json line = {{"question", longer}, {"choices", {"a", "b"}}, {"answer", 0}};
  write_file(path("long.jsonl"), questions_ + line.dump() + "\n");
  EvaluateOptions wanted = quiz({});
  wanted.tasks = {path("long.jsonl")};
  const Failure found = failure_of(wanted);
  EXPECT_EQ(found.code, static_cast<int>(ErrorCode::kInputMalformed));
  EXPECT_THAT(found.message, ::testing::AllOf(HasSubstr("long.jsonl:41"), HasSubstr("512")));
}

TEST_F(ChoiceTask, ExamplesAreLeftOutUntilAPromptFits) {
  edit_file(base_ + "/config.json", "\"max_position_embeddings\": 512",
            "\"max_position_embeddings\": 120");
  EvaluateOptions wanted = quiz({});
  wanted.shots = 5;
  const EvaluateReport report = evaluate(wanted, {});
  EXPECT_EQ(report.tasks[0].fewer_shots, 40);
  EXPECT_LT(report.tasks[0].shots, 5);
  EXPECT_GT(report.tasks[0].shots, 0);
}

}  // namespace
}  // namespace pare::testing
