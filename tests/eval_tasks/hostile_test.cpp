// Files that are damaged, of another kind, missing or there twice.
#include <gmock/gmock.h>

#include "tests/eval_tasks/task_fixture.h"

namespace pare {
namespace {

using ::testing::AllOf;
using testing::failure_of;
using testing::Files;
using ::testing::HasSubstr;
using testing::mmlu_rows;
using ::testing::StartsWith;
using testing::TaskFolder;

std::string failure_in(const std::string& task, const std::string& file, const std::string& text) {
  const TaskFolder folder(Files{{file, text}});
  return failure_of(task, folder, file);
}

TEST(HostileMmlu, RowsThatDoNotFit) {
  const auto failure = [](const std::string& row) {
    const TaskFolder folder(Files{{"test/a_test.csv", mmlu_rows("a", 2) + row}});
    return failure_of("mmlu", folder, "", {.shots = 0});
  };
  const std::string at = "input_malformed: test/a_test.csv:3: ";
  EXPECT_THAT(failure("q,w,x,y,A\n"), StartsWith(at + "5 columns; expected 6"));
  EXPECT_THAT(failure("q,w,x,y,z,A,\n"), StartsWith(at + "7 columns"));
  EXPECT_THAT(failure("\nq,w,x,y,z,A\n"), StartsWith(at + "1 columns"));
  EXPECT_THAT(failure("q,w,x,y,z,E\n"), StartsWith(at + "the answer is \"E\""));
  EXPECT_THAT(failure("q,w,x,y,z,a\n"), StartsWith(at));
  EXPECT_THAT(failure("q,w,x,y,z,\n"), StartsWith(at));
  EXPECT_THAT(failure("  ,w,x,y,z,A\n"), StartsWith(at + "the question is empty"));
  EXPECT_THAT(failure("q,w,,y,z,A\n"), StartsWith(at + "choice B is empty"));
  EXPECT_THAT(failure("\"q,w,x,y,z,A\n"), StartsWith(at + "a quote is opened"));
  EXPECT_THAT(failure("q\xff,w,x,y,z,A\n"), StartsWith(at + "not UTF-8"));
  EXPECT_THAT(failure("q\xed\xa0\x80,w,x,y,z,A\n"), StartsWith(at + "not UTF-8"));
  EXPECT_THAT(failure("q\xc3"), StartsWith(at + "not UTF-8"));
  EXPECT_THAT(failure(std::string("q\0,w", 4)), StartsWith(at + "holds a NUL"));
  EXPECT_EQ(failure("q,w,x,y,z,A"), "") << "the same row without damage";
}

TEST(HostileMmlu, FoldersThatDoNotFit) {
  const std::string rows = mmlu_rows("a", 5);
  const auto failure = [](const std::map<std::string, std::string>& files) {
    const TaskFolder folder(files);
    return failure_of("mmlu", folder, "");
  };
  EXPECT_THAT(failure({{"other/a.csv", rows}}), HasSubstr("expected test/SUBJECT_test.csv"));
  EXPECT_THAT(failure({{"test/readme.txt", rows}}), HasSubstr("test: holds no SUBJECT_test.csv"));
  EXPECT_THAT(failure({{"test/a_test.csv", ""}, {"dev/a_dev.csv", rows}}),
              "input_malformed: test/a_test.csv: is empty");
  EXPECT_THAT(failure({{"test/a_test.csv", rows}, {"dev/a_dev.csv", "\n"}}),
              "input_malformed: dev/a_dev.csv: is empty");
  EXPECT_THAT(
      failure({{"test/a_test.csv", rows}, {"dev/a_dev.csv", rows}, {"dev/b_dev.csv", rows}}),
      HasSubstr("test: has no b_test.csv"));
  for (const char* copy : {"a_test (1).csv", "A_test.csv", "a_test_test (copy)_test.csv", "_.csv",
                           "a.csv", "_test.csv"}) {
    EXPECT_THAT(failure({{"test/a_test.csv", rows},
                         {"dev/a_dev.csv", rows},
                         {std::string("test/") + copy, rows}}),
                HasSubstr(std::string("test/") + copy + ": not named"));
  }
  EXPECT_EQ(failure({{"test/a_test.csv", rows},
                     {"test/._a_test.csv", "\xff"},
                     {"dev/a_dev.csv", rows},
                     {"test/README.md", ""}}),
            "");
}

TEST(HostileFiles, MissingEmptyAndAmbiguous) {
  const std::string line = R"({"text":"two words"})";
  const TaskFolder folder(
      Files{{"empty.jsonl", ""}, {"blank.jsonl", " \n\n"}, {"list.json", "[]"}});
  EXPECT_THAT(failure_of("lambada", folder, "none.jsonl"), StartsWith("input_missing: none.jsonl"));
  EXPECT_EQ(failure_of("lambada", folder, "empty.jsonl"), "input_malformed: empty.jsonl: is empty");
  EXPECT_EQ(failure_of("lambada", folder, "blank.jsonl"), "input_malformed: blank.jsonl: is empty");
  EXPECT_EQ(failure_of("lambada", folder, "list.json"),
            "input_malformed: list.json: holds no question");
  EXPECT_THAT(failure_of("lambada", folder, ""), StartsWith("input_missing: "));
  const TaskFolder twice(Files{{"a_test.jsonl", line}, {"b_test.jsonl", line}});
  EXPECT_THAT(failure_of("lambada", twice, ""),
              AllOf(StartsWith("input_malformed: "), HasSubstr("a_test.jsonl and b_test.jsonl")));
  EXPECT_EQ(failure_of("lambada", twice, "b_test.jsonl"), "");
  EXPECT_THAT(failure_of("winograd", twice, ""), HasSubstr("usage: unknown task"));
}

TEST(HostileJson, DamageIsNamedWithItsLine) {
  const std::string good = "{\"text\":\"two words\"}\n";
  const std::string at = "input_malformed: l.jsonl:2: ";
  EXPECT_THAT(failure_in("lambada", "l.jsonl", good + "{\"text\":\"two wo"),
              StartsWith(at + "not valid JSON"));
  EXPECT_THAT(failure_in("lambada", "l.jsonl", good + good.substr(0, 10) + "\n" + good),
              StartsWith(at + "not valid JSON"));
  EXPECT_THAT(failure_in("lambada", "l.jsonl", good + "17\n"),
              StartsWith(at + "expected a JSON object"));
  EXPECT_THAT(failure_in("lambada", "l.jsonl", good + "{}{}\n"), StartsWith(at));
  EXPECT_THAT(failure_in("lambada", "l.jsonl", good + "{\"text\":\"\xc0\xaf x\"}\n"),
              StartsWith(at + "not UTF-8"));
  EXPECT_THAT(failure_in("lambada", "l.jsonl", good + R"({"text":"\ud800 x"})"), StartsWith(at));
  EXPECT_THAT(failure_in("lambada", "l.jsonl", good + R"({"text":"word"})"),
              StartsWith(at + "\"text\" is a single word"));
  EXPECT_THAT(failure_in("lambada", "l.jsonl", good + R"({"text":null})"),
              StartsWith(at + "has no \"text\""));
  EXPECT_THAT(failure_in("lambada", "l.jsonl", good + R"({"text":1e999})"), StartsWith(at));
}

TEST(HostileJson, ArraysKnowTheirLinesToo) {
  const std::string array = "[\n {\"text\": \"a {[\\\" b\"},\n\n {\"text\": 7}\n]";
  EXPECT_THAT(failure_in("lambada", "l.json", array),
              StartsWith("input_malformed: l.json:4: \"text\" is 7; expected text"));
  EXPECT_THAT(failure_in("lambada", "l.json", array.substr(0, array.size() - 3)),
              StartsWith("input_malformed: l.json:4: not valid JSON"));
  EXPECT_THAT(failure_in("lambada", "l.json", "[\n{\"text\": \"a b\"}, [{}]]"),
              HasSubstr("element 2 of the array is no JSON object"));
}

TEST(HostileJson, NestingIsBounded) {
  const std::string deep(1 << 20, '[');
  EXPECT_THAT(failure_in("lambada", "l.jsonl", "{\"text\":" + deep),
              StartsWith("input_malformed: l.jsonl:1: JSON that is nested too deeply"));
  EXPECT_THAT(failure_in("lambada", "l.json", deep),
              StartsWith("input_malformed: l.json:1: JSON that is nested too deeply"));
}

TEST(HostileHellaSwag, TextForm) {
  const std::string good = "c\n0\na\nb\nc\nd\n";
  const auto failure = [](const std::string& text) {
    return failure_in("hellaswag", "h.txt", text);
  };
  EXPECT_THAT(failure(good + "c\n1\na\nb\nc\n"),
              StartsWith("input_malformed: h.txt:7: the file ends within a question"));
  EXPECT_THAT(failure(good + "c\n4\na\nb\nc\nd\n"), StartsWith("input_malformed: h.txt:8: \"4\""));
  EXPECT_THAT(failure(good + "c\n\na\nb\nc\nd\n"), StartsWith("input_malformed: h.txt:8: "));
  EXPECT_THAT(failure(good + "c\n1\na\n[step]\nc\nd\n"), HasSubstr("h.txt:7: ending 2 is empty"));
  EXPECT_THAT(failure("\n0\na\nb\nc\nd\n"), HasSubstr("h.txt:1: the context is empty"));
  EXPECT_EQ(failure(good + good + "\n\n"), "");
}

TEST(HostileHellaSwag, JsonForm) {
  const auto failure = [](const std::string& rest) {
    return failure_in("hellaswag", "h.jsonl", "{\"ctx\":\"c\"," + rest + "}");
  };
  EXPECT_EQ(failure(R"("endings":["a","b","c","d"],"label":3)"), "");
  EXPECT_THAT(failure(R"("endings":["a","b","c"],"label":0)"), HasSubstr("3 endings; expected 4"));
  EXPECT_THAT(failure(R"("endings":["a","b","c","d"],"label":"")"), HasSubstr("expected 0 to 3"));
  EXPECT_THAT(failure(R"("endings":["a","b","c","d"],"label":4)"), HasSubstr("expected 0 to 3"));
}

TEST(HostilePiqa, Labels) {
  const std::string line = R"({"goal":"g","sol1":"x","sol2":"y"})";
  const std::string two = line + "\n" + line + "\n";
  const auto failure = [&](const std::string& labels) {
    const TaskFolder folder(Files{{"v.jsonl", two}, {"v-labels.lst", labels}});
    return failure_of("piqa", folder, "v.jsonl");
  };
  EXPECT_EQ(failure("0\r\n1\r\n"), "");
  EXPECT_EQ(failure("0\n1"), "");
  EXPECT_THAT(failure("0\n2\n"), StartsWith("input_malformed: v-labels.lst:2: \"2\""));
  EXPECT_THAT(failure("0\n\n1\n"), StartsWith("input_malformed: v-labels.lst:2: "));
  EXPECT_THAT(failure("0\n"), HasSubstr("v-labels.lst: 1 labels for 2 questions in v.jsonl"));
  EXPECT_THAT(failure("0\n1\n1\n"), HasSubstr("3 labels for 2 questions"));
  EXPECT_THAT(failure_in("piqa", "v.jsonl", two),
              AllOf(HasSubstr("v.jsonl:1: has no \"label\""), HasSubstr("v-labels.lst")));
  EXPECT_THAT(failure_in("piqa", "v.jsonl",
                         R"({"goal":"g","sol1":"x","sol2":"y","label":0})"
                         "\n" +
                             line),
              HasSubstr("v.jsonl:2: has no \"label\", unlike other lines"));
  EXPECT_THAT(failure_in("piqa", "v.jsonl", R"({"goal":"g","sol1":"x","sol2":"y","label":-1})"),
              HasSubstr("expected 0 to 1"));
}

TEST(HostileArc, EveryForm) {
  const auto failure = [](const std::string& line) {
    return failure_in("arc_easy", "a.jsonl", line);
  };
  const auto instruction = [&](const std::string& text, const std::string& answer) {
    return failure(R"({"instruction":")" + text + R"(","answer":")" + answer + "\"}");
  };
  const std::string begin = "Please choose the correct answer to the question: ";
  const std::string end = R"(\n\nAnswer format: answer1/answer2)";
  EXPECT_EQ(instruction(begin + R"(Q\n\nAnswer1: a Answer2: b)" + end, "answer2"), "");
  EXPECT_THAT(instruction(begin + R"(Q\n\nAnswer1: a Answer2: b)" + end, "answer3"),
              HasSubstr("expected the label of one of the choices"));
  EXPECT_THAT(instruction(begin + R"(Q\n\nAnswer1: a)" + end, "answer1"),
              HasSubstr("a.jsonl:1: the instruction has no \"Answer2:\""));
  EXPECT_THAT(instruction(begin + R"(Q\n\nAnswer1: a Answer2:  )" + end, "answer1"),
              HasSubstr("nothing before \"Answer format:\""));
  EXPECT_THAT(instruction(R"(Q\n\nAnswer1: a Answer2: b)" + end, "answer1"),
              HasSubstr("does not begin with"));
  EXPECT_THAT(instruction(begin + "Q", "answer1"), HasSubstr("no \"Answer format:\""));
  EXPECT_THAT(instruction(begin + R"(Q\n\nAnswer format: x/y)", "answer1"),
              HasSubstr("format is not"));
  EXPECT_THAT(failure(R"({"question":{"stem":"Q","choices":[{"text":"a","label":"A"},)"
                      R"({"text":"b","label":"B"}]},"answerKey":"C"})"),
              HasSubstr("a.jsonl:1: \"answerKey\" is \"C\""));
  EXPECT_THAT(failure(R"({"question":{"stem":"Q","choices":[{"text":"a","label":"A"},)"
                      R"({"text":"b","label":"A"}]},"answerKey":"A"})"),
              HasSubstr("means only one of the choices"));
  EXPECT_THAT(failure(R"({"question":{"stem":"Q","choices":[{"text":"a"}]},"answerKey":"A"})"),
              HasSubstr("at least two objects"));
  EXPECT_THAT(failure(R"({"question":"Q","choices":{"text":["a","b"],"label":["A","B","C"]},)"
                      R"("answerKey":"C"})"),
              HasSubstr("3 labels for 2 choices"));
}

TEST(HostileWinoGrande, BlanksAndAnswers) {
  const auto failure = [](const std::string& sentence, const std::string& answer) {
    return failure_in("winogrande", "w.jsonl",
                      R"({"sentence":")" + sentence +
                          R"(","option1":"Ann","option2":"Bea","answer":)" + answer + "}");
  };
  EXPECT_EQ(failure("so _ left.", "\"1\""), "");
  EXPECT_EQ(failure("so _ left.", "2"), "");
  for (const char* answer : {"0", "3", "\"\"", "\"Ann\""}) {
    EXPECT_THAT(failure("so _ left.", answer), HasSubstr("w.jsonl:1: \"answer\" is ")) << answer;
  }
  EXPECT_THAT(failure("so she left.", "1"), HasSubstr("not exactly one blank"));
  EXPECT_THAT(failure("so _ met _.", "1"), HasSubstr("not exactly one blank"));
  EXPECT_THAT(failure("it was _ ", "1"), HasSubstr("nothing follows the blank"));
}

TEST(HostileBoolQ, AnswerMustBeABoolean) {
  EXPECT_THAT(failure_in("boolq", "b.jsonl", R"({"question":"q","passage":"p","answer":"yes"})"),
              HasSubstr("b.jsonl:1: \"answer\" is \"yes\"; expected true or false"));
  EXPECT_THAT(failure_in("boolq", "b.jsonl", R"({"question":"q","passage":"p"})"),
              HasSubstr("b.jsonl:1: has no \"label\""));
  EXPECT_THAT(failure_in("boolq", "b.jsonl", R"({"question":"q","answer":true})"),
              HasSubstr("has no \"passage\""));
}

}  // namespace
}  // namespace pare
