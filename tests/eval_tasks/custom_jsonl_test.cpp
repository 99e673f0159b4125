// A task of the user's own.
#include <gmock/gmock.h>

#include "tests/eval_tasks/task_fixture.h"

namespace pare {
namespace {

using ::testing::ElementsAre;
using testing::failure_of;
using testing::Files;
using ::testing::HasSubstr;
using testing::prompt_of;
using testing::TaskFolder;

constexpr const char* kQuestions =
    R"({"question":"2 + 2?","choices":["3","4"],"answer":1,"subject":"sums"})"
    "\n"
    R"({"question":"3 x 3?","choices":["nine","six","one"],"answer":"A","subject":"products"})"
    "\n"
    R"({"question":"1 + 2?","choices":["two","three"],"answer":"three","subject":"sums"})"
    "\n"
    R"({"question":"Free?","choices":["B","A"],"answer":0})";

TEST(CustomTask, AnswersByIndexLetterOrTextAndGroupsBySubject) {
  const TaskFolder folder(Files{{"arith.jsonl", kQuestions}});
  const Task task = read_task("jsonl", folder / "arith.jsonl", {});
  EXPECT_EQ(task.name, "arith");
  ASSERT_EQ(task.groups.size(), 3u);
  EXPECT_EQ(task.groups[0].name, "sums");
  EXPECT_EQ(task.groups[1].name, "products");
  EXPECT_EQ(task.groups[2].name, "arith") << "questions without a subject go by the file's name";
  ASSERT_EQ(task.groups[0].items.size(), 2u);
  EXPECT_EQ(prompt_of(task, 0, 0), "Question: 2 + 2?\nAnswer:");
  EXPECT_EQ(task.groups[0].items[0].choices[1].continuation, " 4");
  EXPECT_EQ(task.groups[0].items[0].answer, 1);
  EXPECT_EQ(task.groups[0].items[1].answer, 1);
  EXPECT_EQ(task.groups[0].items[1].row, 2);
  EXPECT_EQ(task.groups[1].items[0].answer, 0);
  EXPECT_EQ(task.groups[2].items[0].answer, 0);
}

TEST(CustomTask, APathIsAName) {
  const TaskFolder folder(Files{{"arith.jsonl", kQuestions}});
  EXPECT_EQ(read_task(folder / "arith.jsonl", "", {}).item_count(), 4);
  EXPECT_THAT(failure_of(folder / "arith.jsonl", folder, "other"), HasSubstr("usage: "));
}

TEST(CustomTask, ExamplesOfTheSubject) {
  const TaskFolder folder(
      Files{{"t.jsonl", R"({"question":"q","choices":["a","b"],"answer":0,"subject":"s"})"},
            {"t_dev.jsonl", R"({"question":"other","choices":["c","d"],"answer":0,"subject":"r"})"
                            "\n"
                            R"({"question":"e","choices":["c","d"],"answer":"B","subject":"s"})"}});
  const Task task = read_task("jsonl", folder / "t.jsonl", {.shots = 1});
  EXPECT_THAT(task.groups[0].examples, ElementsAre("Question: e\nAnswer: d\n\n"));
  EXPECT_THAT(failure_of("jsonl", folder, "t.jsonl", {.shots = 2}),
              HasSubstr("t_dev.jsonl (s): holds 1 examples, but 2 shots"));
}

TEST(CustomTask, WhatDoesNotFitIsNamed) {
  const auto failure = [](const std::string& line) {
    const TaskFolder folder(Files{{"t.jsonl", R"({"question":"q","choices":["a","b"],"answer":0})"
                                              "\n" +
                                                  line + "\n"}});
    return failure_of("jsonl", folder, "t.jsonl");
  };
  const std::string at = "input_malformed: t.jsonl:2: ";
  EXPECT_THAT(failure(R"({"choices":["a","b"],"answer":0})"), at + "has no \"question\"");
  EXPECT_THAT(failure(R"({"question":" ","choices":["a","b"],"answer":0})"),
              at + "\"question\" is empty");
  EXPECT_THAT(failure(R"({"question":"q","choices":[],"answer":0})"),
              HasSubstr(at + "\"choices\""));
  EXPECT_THAT(failure(R"({"question":"q","choices":["a"],"answer":0})"), HasSubstr(at));
  EXPECT_THAT(failure(R"({"question":"q","choices":["a",""],"answer":0})"), HasSubstr(at));
  EXPECT_THAT(failure(R"({"question":"q","choices":["a",7],"answer":0})"), HasSubstr(at));
  EXPECT_THAT(failure(R"({"question":"q","choices":"ab","answer":0})"), HasSubstr(at));
  EXPECT_THAT(failure(R"({"question":"q","choices":["a","b"]})"), at + "has no \"answer\"");
  for (const char* answer : {"2", "-1", "1.0", "1e99", "99999999999999999999", "\"C\"", "\"\"",
                             "\"0x\"", "true", "null", "[0]", "{}"}) {
    const std::string found =
        failure(R"({"question":"q","choices":["a","b"],"answer":)" + std::string(answer) + "}");
    EXPECT_THAT(found, HasSubstr(at)) << answer;
  }
  // The letter A is the first choice, the text A the second.
  EXPECT_THAT(failure(R"({"question":"q","choices":["B","A"],"answer":"A"})"),
              HasSubstr("means only one of the choices"));
  EXPECT_THAT(failure(R"({"question":"q","choices":["x","x"],"answer":"x"})"),
              HasSubstr("means only one of the choices"));
}

}  // namespace
}  // namespace pare
