// The published files: how many questions, what some of them read, and prompts whose token counts
// the reference implementation wrote down.
#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "core/sha256.h"
#include "tests/eval_tasks/task_fixture.h"
#include "tests/support/reference.h"
#include "tokenizer/tokenizer.h"

namespace pare {
namespace {

using testing::prompt_of;
using testing::read_file;

std::string data(const std::string& name) { return testing::reference_dir() + "/data/" + name; }

bool absent() { return !std::filesystem::exists(data("mmlu")); }

std::map<int64_t, int64_t> answer_counts(const Task& task) {
  std::map<int64_t, int64_t> counts;
  for (const TaskItem& item : task.groups[0].items) ++counts[item.answer];
  return counts;
}

TEST(RealData, MmluHasItsSubjectsAndCategories) {
  if (absent()) GTEST_SKIP() << "no reference data at " << testing::reference_dir();
  const Task task = read_task("mmlu", data("mmlu"), {});
  EXPECT_EQ(task.groups.size(), 57u);
  EXPECT_EQ(task.item_count(), 13795);
  std::map<std::string, int> categories;
  for (const TaskGroup& group : task.groups) {
    ++categories[group.category];
    EXPECT_EQ(group.examples.size(), 5u) << group.name;
  }
  EXPECT_EQ(categories,
            (std::map<std::string, int>{
                {"STEM", 18}, {"humanities", 13}, {"social sciences", 12}, {"other", 14}}));
}

// The reference has a prompt's length in tokens: a blank more or less would show.
TEST(RealData, MmluPromptsHaveTheReferencesTokens) {
  if (absent()) GTEST_SKIP() << "no reference data at " << testing::reference_dir();
  const std::string model = testing::reference_dir() + "/models/base/";
  const Tokenizer tokenizer =
      Tokenizer::from_json(read_file(model + "tokenizer.json"), "tokenizer.json");
  const auto reference = nlohmann::json::parse(read_file(model + "reference_mmlu_fp32.json"));
  const Task task = read_task("mmlu", data("mmlu"), {});
  std::map<std::string, const TaskGroup*> groups;
  for (const TaskGroup& group : task.groups) groups[group.name] = &group;
  ASSERT_EQ(reference["rows"].size(), 13795u);
  int64_t compared = 0;
  for (size_t i = 0; i < reference["rows"].size(); ++i) {
    const auto& row = reference["rows"][i];
    const TaskGroup& group = *groups.at(row[0].get<std::string>());
    const TaskItem& item = group.items.at(row[1].get<size_t>());
    ASSERT_EQ(item.row, row[1].get<int64_t>());
    ASSERT_EQ(item.answer, row[5].get<int64_t>()) << item.source;
    if (i % 31 != 0) continue;
    std::string prompt = group.header;
    for (size_t shot = 0; shot < row[2].get<size_t>(); ++shot) prompt += group.examples[shot];
    prompt += item.question;
    EXPECT_EQ(tokenizer.encode(prompt, true).size(), row[3].get<size_t>()) << item.source;
    ++compared;
  }
  EXPECT_GT(compared, 300);
}

TEST(RealData, OtherSetsHaveTheirQuestions) {
  if (absent()) GTEST_SKIP() << "no reference data at " << testing::reference_dir();
  using Counts = std::map<int64_t, int64_t>;
  const Task hellaswag = read_task("hellaswag", data("hellaswag"), {});
  EXPECT_EQ(answer_counts(hellaswag), (Counts{{0, 2515}, {1, 2485}, {2, 2584}, {3, 2458}}));
  EXPECT_EQ(prompt_of(hellaswag, 0, 0), "Roof shingle removal: A man is sitting on a roof. he");
  const Task piqa = read_task("piqa", data("piqa"), {});
  EXPECT_EQ(piqa.item_count(), 1838);
  EXPECT_EQ(prompt_of(piqa, 0, 1), "Question: dresser\nAnswer:");
  EXPECT_EQ(piqa.groups[0].items[1].answer, 1);
  const Task easy = read_task("arc_easy", data("arc"), {});
  EXPECT_EQ(easy.item_count(), 2376);
  const Task challenge = read_task("arc_challenge", data("arc"), {});
  EXPECT_EQ(challenge.item_count(), 1172);
  EXPECT_EQ(challenge.groups[0].items[0].answer, 2);
  std::map<size_t, int64_t> sizes;
  for (const TaskItem& item : challenge.groups[0].items) ++sizes[item.choices.size()];
  EXPECT_EQ(sizes, (std::map<size_t, int64_t>{{3, 4}, {4, 1165}, {5, 3}}));
  const Task winogrande = read_task("winogrande", data("winogrande"), {});
  EXPECT_EQ(answer_counts(winogrande), (Counts{{0, 628}, {1, 639}}));
  EXPECT_EQ(prompt_of(winogrande, 0, 0, 1), "Sarah was a much better surgeon than Maria so Maria");
  const Task boolq = read_task("boolq", data("boolq"), {});
  EXPECT_EQ(answer_counts(boolq), (Counts{{0, 1237}, {1, 2033}}));
  const Task lambada = read_task("lambada", data("lambada"), {});
  EXPECT_EQ(lambada.item_count(), 5153);
  EXPECT_EQ(lambada.groups[0].items[0].choices[0].continuation, " signs");
  EXPECT_EQ(lambada.sha256, sha256_file(data("lambada/lambada_test.jsonl")));
}

TEST(RealData, NoChoiceIsEmptyAndEveryAnswerIsOne) {
  if (absent()) GTEST_SKIP() << "no reference data at " << testing::reference_dir();
  for (const auto& [name, folder] : std::map<std::string, std::string>{{"mmlu", "mmlu"},
                                                                       {"hellaswag", "hellaswag"},
                                                                       {"piqa", "piqa"},
                                                                       {"arc_easy", "arc"},
                                                                       {"arc_challenge", "arc"},
                                                                       {"winogrande", "winogrande"},
                                                                       {"boolq", "boolq"},
                                                                       {"lambada", "lambada"}}) {
    for (const TaskGroup& group : read_task(name, data(folder), {}).groups) {
      for (const TaskItem& item : group.items) {
        ASSERT_FALSE(item.question.empty() && item.choices[0].prefix.empty()) << item.source;
        ASSERT_GE(item.answer, 0);
        ASSERT_LT(item.answer, static_cast<int64_t>(item.choices.size())) << item.source;
        for (const Choice& choice : item.choices) {
          ASSERT_GT(choice.continuation.size(), 1u) << item.source;
        }
      }
    }
  }
}

}  // namespace
}  // namespace pare
