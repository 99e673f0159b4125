// Prompts written out by hand, as each set's usual harness shows them to a model.
#include <gmock/gmock.h>

#include "tests/eval_tasks/task_fixture.h"

namespace pare {
namespace {

using ::testing::ElementsAre;
using testing::Files;
using testing::prompt_of;
using testing::TaskFolder;

MATCHER_P(Says, text, "") { return arg.continuation == text && arg.prefix.empty(); }

/// A file of one task, at zero shots.
Task read_one(const std::string& task, const std::string& file, const std::string& content) {
  const TaskFolder folder(Files{{file, content}});
  return read_task(task, folder / file, {});
}

TEST(GoldenPrompts, Mmlu) {
  const TaskFolder folder(
      Files{{"dev/high_school_physics_dev.csv",
             "What falls? ,stones,\"birds, big\",air,light,A\r\n"
             "\"What is \"\"c\"\"?\",\"a\nspeed\",b,c,d,C\r\n"},
            {"test/high_school_physics_test.csv", "\"\n What glows?\n\",iron , lamp,ice,fog,B\r\n"},
            {"dev/virology_dev.csv", "V?,1,2,3,4,D"},
            {"test/virology_test.csv", "W?,5,6,7,8,A"}});
  const Task task = read_task("mmlu", folder.path(), {.shots = 1});
  ASSERT_EQ(task.groups.size(), 2u);
  EXPECT_EQ(task.scoring, ChoiceScoring::kSum);
  EXPECT_EQ(prompt_of(task, 0, 0),
            "The following are multiple choice questions (with answers) about high school physics."
            "\n\nWhat falls?\nA. stones\nB. birds, big\nC. air\nD. light\nAnswer: A\n\n"
            "What glows?\nA. iron \nB.  lamp\nC. ice\nD. fog\nAnswer:");
  EXPECT_THAT(task.groups[0].items[0].choices,
              ElementsAre(Says(" A"), Says(" B"), Says(" C"), Says(" D")));
  EXPECT_EQ(task.groups[0].items[0].answer, 1);
  EXPECT_EQ(task.groups[0].name, "high_school_physics");
  EXPECT_EQ(task.groups[0].category, "STEM");
  EXPECT_EQ(task.groups[1].category, "other");
  EXPECT_EQ(prompt_of(task, 1, 0),
            "The following are multiple choice questions (with answers) about virology.\n\n"
            "V?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: D\n\nW?\nA. 5\nB. 6\nC. 7\nD. 8\nAnswer:");
}

TEST(GoldenPrompts, MmluQuotedFieldsInExamples) {
  const TaskFolder folder(
      Files{{"dev/virology_dev.csv", "\"What is \"\"c\"\"?\",\"a\nspeed\",b,c,d,C\n"},
            {"test/virology_test.csv", "W?,5,6,7,8,A"}});
  const Task task = read_task("mmlu", folder.path(), {.shots = 1});
  EXPECT_THAT(task.groups[0].examples,
              ElementsAre("What is \"c\"?\nA. a\nspeed\nB. b\nC. c\nD. d\nAnswer: C\n\n"));
}

TEST(GoldenPrompts, HellaSwagText) {
  const Task task = read_one("hellaswag", "h.txt",
                             "Roof: A man sits. he\n3\nis [x] using wrap.\nrips.\nholds.\nstarts.\n"
                             "Jump: A boy runs.  he\r\n0\r\nlands.\r\nb.\r\nc.\r\nd.\r\n");
  EXPECT_EQ(task.scoring, ChoiceScoring::kPerCharacter);
  EXPECT_EQ(prompt_of(task, 0, 0), "Roof: A man sits. he");
  EXPECT_THAT(task.groups[0].items[0].choices, ElementsAre(Says(" is using wrap."), Says(" rips."),
                                                           Says(" holds."), Says(" starts.")));
  EXPECT_EQ(task.groups[0].items[0].answer, 3);
  EXPECT_EQ(prompt_of(task, 0, 1), "Jump: A boy runs. he");
  EXPECT_EQ(task.groups[0].items[1].answer, 0);
  EXPECT_THAT(task.groups[0].items[1].source, ::testing::EndsWith("h.txt:7"));
}

TEST(GoldenPrompts, HellaSwagJsonLines) {
  const Task task = read_one(
      "hellaswag", "hellaswag_val.jsonl",
      R"({"activity_label":"Cake","ctx_a":"[header] How to bake [title] Mix it. [step] Stir.",)"
      R"("ctx_b":"then She","ctx":"unused","endings":["eats [substeps] it.","b","c","d"],"label":"2"})"
      "\n"
      R"({"activity_label":"Cake","ctx":"A cook stirs.","endings":["a","b","c","d"],"label":1})");
  // The mark at the front leaves a double blank, which becomes one.
  EXPECT_EQ(prompt_of(task, 0, 0), "Cake: How to bake. Mix it. Stir. Then she");
  EXPECT_EQ(task.groups[0].items[0].choices[0].continuation, " eats it.");
  EXPECT_EQ(task.groups[0].items[0].answer, 2);
  EXPECT_EQ(prompt_of(task, 0, 1), "Cake: A cook stirs.");
  EXPECT_EQ(task.groups[0].items[1].answer, 1);
}

TEST(GoldenPrompts, Piqa) {
  const TaskFolder folder(
      Files{{"valid.jsonl", R"({"goal":"ice box","sol1":"cools ","sol2":"warms"})"
                            "\n"
                            R"({"goal":"When?","sol1":"x","sol2":"y"})"
                            "\n"},
            {"valid-labels.lst", "0\n1\n"}});
  const Task task = read_task("piqa", folder.path(), {});
  EXPECT_EQ(task.scoring, ChoiceScoring::kSum);
  EXPECT_EQ(prompt_of(task, 0, 0), "Question: ice box\nAnswer:");
  EXPECT_THAT(task.groups[0].items[0].choices, ElementsAre(Says(" cools "), Says(" warms")));
  EXPECT_EQ(task.groups[0].items[0].answer, 0);
  EXPECT_EQ(task.groups[0].items[1].answer, 1);
  const Task inside =
      read_one("piqa", "p.jsonl", R"({"goal":"g","sol1":"x","sol2":"y","label":1})");
  EXPECT_EQ(inside.groups[0].items[0].answer, 1);
}

TEST(GoldenPrompts, ArcInThreeForms) {
  const std::string instruction = R"([
    {"instruction": "Please choose the correct answer to the question: Why?\n\nAnswer1: It is. )"
                                  R"(Answer2: It was. Answer3: No.\n\nAnswer format: )"
                                  R"(answer1/answer2/answer3",
     "input": "", "output": "the correct answer is answer3", "answer": "answer3"}])";
  const std::string stem =
      R"({"id":"1","question":{"stem":"Why?","choices":[{"text":"It is.","label":"A"},)"
      R"({"text":"It was.","label":"B"},{"text":"No.","label":"C"}]},"answerKey":"C"})";
  const std::string columns = R"({"question":"Why?","choices":{"text":["It is.","It was.","No."],)"
                              R"("label":["1","2","3"]},"answerKey":"3"})";
  for (const std::string& content : {instruction, stem, columns}) {
    for (const char* name : {"arc_easy", "arc_challenge"}) {
      const Task task = read_one(name, "f.json", content);
      EXPECT_EQ(task.name, name);
      EXPECT_EQ(task.scoring, ChoiceScoring::kSum);
      EXPECT_EQ(prompt_of(task, 0, 0), "Question: Why?\nAnswer:");
      EXPECT_THAT(task.groups[0].items[0].choices,
                  ElementsAre(Says(" It is."), Says(" It was."), Says(" No.")));
      EXPECT_EQ(task.groups[0].items[0].answer, 2);
    }
  }
}

TEST(GoldenPrompts, ArcAnswerIsALabelEvenWhereAChoiceReadsTheSame) {
  const Task task = read_one("arc_easy", "f.jsonl",
                             R"({"question":"How many?","choices":{"text":["2","3","1"],)"
                             R"("label":["1","2","3"]},"answerKey":"2"})");
  EXPECT_EQ(task.groups[0].items[0].answer, 1);
}

TEST(GoldenPrompts, WinoGrandeInTwoForms) {
  const std::string instruction =
      R"([{"instruction": "Please choose the correct answer to fill in the blank to complete the )"
      R"(given sentence: Sarah met Maria so _ got easier cases.\n\nOption1: Sarah Option2: Maria )"
      R"(Answer format: option1/option2", "answer": "option2"}])";
  const std::string usual = R"({"sentence":"Sarah met Maria so _ got easier cases.",)"
                            R"("option1":"Sarah","option2":"Maria","answer":"2"})";
  for (const std::string& content : {instruction, usual}) {
    const Task task = read_one("winogrande", "f.json", content);
    EXPECT_EQ(task.scoring, ChoiceScoring::kSum);
    EXPECT_EQ(prompt_of(task, 0, 0, 0), "Sarah met Maria so Sarah");
    EXPECT_EQ(prompt_of(task, 0, 0, 1), "Sarah met Maria so Maria");
    for (const Choice& choice : task.groups[0].items[0].choices) {
      EXPECT_EQ(choice.continuation, " got easier cases.");
    }
    EXPECT_EQ(task.groups[0].items[0].answer, 1);
  }
}

TEST(GoldenPrompts, BoolQ) {
  const Task task = read_one("boolq", "dev.jsonl",
                             R"({"question":"is it","title":"T","answer":true,"passage":"It is."})"
                             "\n"
                             R"({"question":"was it","passage":"It is.","label":0})");
  EXPECT_EQ(prompt_of(task, 0, 0), "It is.\nQuestion: is it?\nAnswer:");
  EXPECT_THAT(task.groups[0].items[0].choices, ElementsAre(Says(" no"), Says(" yes")));
  EXPECT_EQ(task.groups[0].items[0].answer, 1);
  EXPECT_EQ(task.groups[0].items[1].answer, 0);
}

TEST(GoldenPrompts, Lambada) {
  const Task task = read_one("lambada", "l.jsonl",
                             "{\"text\": \"I care about\\nold signs\"}\n\n"
                             "{\"text\": \"“Hm, when…\\n“Hi, Hydra\"}\n");
  EXPECT_EQ(task.scoring, ChoiceScoring::kGreedy);
  EXPECT_EQ(prompt_of(task, 0, 0), "I care about\nold");
  EXPECT_THAT(task.groups[0].items[0].choices, ElementsAre(Says(" signs")));
  EXPECT_EQ(prompt_of(task, 0, 1), "“Hm, when…\n“Hi,");
  EXPECT_THAT(task.groups[0].items[1].choices, ElementsAre(Says(" Hydra")));
  EXPECT_THAT(task.groups[0].items[1].source, ::testing::EndsWith("l.jsonl:3"));
}

}  // namespace
}  // namespace pare
