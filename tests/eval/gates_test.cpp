// Gates look at the worse end of an interval.
#include "pare/gates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pare/error.h"

namespace pare::testing {
namespace {

using ::testing::HasSubstr;

EvaluateReport report() {
  EvaluateReport result;
  result.tasks.resize(2);
  result.tasks[0].name = "perplexity";
  result.tasks[1].name = "mmlu";
  result.tasks[1].questions = true;
  ModelResult candidate;
  candidate.name = "int4";
  PerplexityResult& text = candidate.perplexities["perplexity"];
  text.ratio = {1.02, 0.005, Interval{1.01, 1.03}};
  text.divergence.kl_mean = {0.02, 0.001, Interval{0.018, 0.022}};
  text.divergence.kl_max = 1;
  ChoiceResult& questions = candidate.choices["mmlu"];
  questions.relative_loss = {0.01, 0.002, Interval{0.006, 0.014}};
  result.candidates.push_back(candidate);
  return result;
}

std::vector<std::string> failed(const EvaluateReport& report, const Gates& gates) {
  std::vector<std::string> names;
  for (const FailedGate& gate : failed_gates(report, gates)) {
    names.push_back(gate.gate + " " + gate.task);
  }
  return names;
}

TEST(Gates, TheWorseEndDecides) {
  using ::testing::ElementsAre;
  using ::testing::IsEmpty;
  EXPECT_THAT(failed(report(), {.max_loss = 0.031, .max_ppl_ratio = 1.03, .max_kl = 0.022}),
              IsEmpty());
  EXPECT_THAT(failed(report(), {.max_loss = 0.02, .max_ppl_ratio = {}, .max_kl = {}}),
              ElementsAre("max_loss perplexity"));
  EXPECT_THAT(failed(report(), {.max_loss = 0.013, .max_ppl_ratio = {}, .max_kl = {}}),
              ElementsAre("max_loss perplexity", "max_loss mmlu"));
  EXPECT_THAT(failed(report(), {.max_loss = {}, .max_ppl_ratio = 1.025, .max_kl = 0.021}),
              ElementsAre("max_ppl_ratio perplexity", "max_kl perplexity"));
}

TEST(Gates, TheMessageNamesGateCandidateTaskAndNumbers) {
  const auto all = failed_gates(report(), {.max_loss = {}, .max_ppl_ratio = {}, .max_kl = 0.01});
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].candidate, "int4");
  EXPECT_EQ(all[0].found, 0.022);
  EXPECT_EQ(all[0].limit, 0.01);
  for (const char* word : {"\"int4\"", "perplexity", "max_kl", "0.022", "0.02 measured", "0.01"}) {
    EXPECT_THAT(all[0].message, HasSubstr(word));
  }
}

TEST(Gates, WithoutAnIntervalNothingIsShown) {
  EvaluateReport few = report();
  few.candidates[0].perplexities["perplexity"].ratio.interval.reset();
  const Gates gates{.max_loss = {}, .max_ppl_ratio = 100, .max_kl = {}};
  EXPECT_THAT(failed_gates(few, gates).at(0).message, HasSubstr("too few items"));
  // Equal in every token: nothing is left to show.
  few.candidates[0].perplexities["perplexity"].ratio.value = 1;
  few.candidates[0].perplexities["perplexity"].divergence.kl_max = 0;
  EXPECT_TRUE(failed_gates(few, gates).empty());
}

TEST(Gates, NaNFails) {
  EvaluateReport broken = report();
  broken.candidates[0].perplexities["perplexity"].divergence.kl_mean.interval->upper = std::nan("");
  EXPECT_EQ(failed(broken, {.max_loss = {}, .max_ppl_ratio = {}, .max_kl = 1e9}).size(), 1U);
}

TEST(Gates, ThatNothingCanBeJudgedByAreRefused) {
  EvaluateReport questions = report();
  questions.tasks.erase(questions.tasks.begin());
  EXPECT_THROW(failed_gates(questions, {.max_loss = {}, .max_ppl_ratio = {}, .max_kl = 1}), Error);
  EXPECT_NO_THROW(failed_gates(questions, {.max_loss = 1, .max_ppl_ratio = {}, .max_kl = {}}));
  questions.candidates.clear();
  EXPECT_THROW(failed_gates(questions, {.max_loss = 1, .max_ppl_ratio = {}, .max_kl = {}}), Error);
}

}  // namespace
}  // namespace pare::testing
