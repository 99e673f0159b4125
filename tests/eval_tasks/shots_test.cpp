// Examples before a question: where they come from, and what is said when there are too few.
#include <gmock/gmock.h>

#include "tests/eval_tasks/task_fixture.h"

namespace pare {
namespace {

using ::testing::ElementsAre;
using testing::failure_of;
using testing::Files;
using ::testing::HasSubstr;
using testing::mmlu_rows;
using testing::TaskFolder;

TEST(Shots, MmluHasFiveUnlessAskedOtherwise) {
  const TaskFolder folder(
      Files{{"dev/a_dev.csv", mmlu_rows("e", 6)}, {"test/a_test.csv", mmlu_rows("a", 2)}});
  EXPECT_EQ(read_task("mmlu", folder.path(), {}).groups[0].examples.size(), 5u);
  EXPECT_EQ(read_task("mmlu", folder.path(), {.shots = 6}).groups[0].examples.size(), 6u);
  EXPECT_EQ(read_task("mmlu", folder.path(), {.shots = 0}).groups[0].examples.size(), 0u);
  EXPECT_EQ(failure_of("mmlu", folder, "", {.shots = 7}),
            "input_malformed: dev/a_dev.csv: holds 6 examples, but 7 shots were asked for");
}

TEST(Shots, MmluSubjectWithoutExamples) {
  const TaskFolder folder(Files{{"dev/a_dev.csv", mmlu_rows("e", 5)},
                                {"test/a_test.csv", mmlu_rows("a", 2)},
                                {"test/b_test.csv", mmlu_rows("b", 2)}});
  EXPECT_THAT(failure_of("mmlu", folder, ""),
              HasSubstr("input_malformed: dev/b_dev.csv: is not there, but 5 shots"));
  EXPECT_EQ(read_task("mmlu", folder.path(), {.shots = 0}).item_count(), 4);
}

TEST(Shots, FromTheTrainingFileBesideTheQuestions) {
  const std::string line = R"({"question":"is it","passage":"P.","answer":false})";
  const TaskFolder folder(Files{{"dev.jsonl", line}, {"train.jsonl", line + "\n" + line}});
  const Task task = read_task("boolq", folder.path(), {.shots = 2});
  const std::string example = "P.\nQuestion: is it?\nAnswer: no\n\n";
  EXPECT_THAT(task.groups[0].examples, ElementsAre(example, example));
  EXPECT_EQ(failure_of("boolq", folder, "dev.jsonl", {.shots = 3}),
            "input_malformed: train.jsonl: holds 2 examples, but 3 shots were asked for");
  EXPECT_NE(task.sha256, read_task("boolq", folder.path(), {.shots = 0}).sha256);
}

TEST(Shots, NoFileOfExamples) {
  const TaskFolder folder(
      Files{{"dev.jsonl", R"({"question":"q","passage":"P.","answer":false})"}});
  EXPECT_THAT(failure_of("boolq", folder, "dev.jsonl", {.shots = 1}),
              HasSubstr("input_malformed: dev.jsonl: 1 shots were asked for, but"));
}

TEST(Shots, WinoGrandeExampleIsTheWholeSentence) {
  const std::string line =
      R"({"sentence":"Ann saw Bea as _ left.","option1":"Ann","option2":"Bea","answer":"2"})";
  const TaskFolder folder(Files{{"dev.jsonl", line}, {"train_xl.jsonl", line}});
  EXPECT_THAT(read_task("winogrande", folder.path(), {.shots = 1}).groups[0].examples,
              ElementsAre("Ann saw Bea as Bea left.\n\n"));
}

}  // namespace
}  // namespace pare
