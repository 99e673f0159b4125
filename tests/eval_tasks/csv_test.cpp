#include "eval/tasks/csv.h"

#include <gmock/gmock.h>

#include <random>

#include "pare/error.h"

namespace pare {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Csv, FieldsQuotesAndLineEndsAsInRfc4180) {
  const auto records =
      parse_csv("a,,c\r\n\"x,y\",\"say \"\"hi\"\"\",\"two\nlines\"\n\"\", d \n", "f");
  ASSERT_EQ(records.size(), 3u);
  EXPECT_THAT(records[0].fields, ElementsAre("a", "", "c"));
  EXPECT_THAT(records[1].fields, ElementsAre("x,y", "say \"hi\"", "two\nlines"));
  EXPECT_THAT(records[2].fields, ElementsAre("", " d "));
  EXPECT_EQ(records[0].line, 1);
  EXPECT_EQ(records[1].line, 2);
  EXPECT_EQ(records[2].line, 4) << "the quoted line end counts";
}

TEST(Csv, LastLineMayLackItsEnd) {
  EXPECT_THAT(parse_csv("a,", "f").at(0).fields, ElementsAre("a", ""));
  EXPECT_THAT(parse_csv("a,\"b\"", "f").at(0).fields, ElementsAre("a", "b"));
}

TEST(Csv, EmptyLinesCountOnlyBetweenRecords) {
  EXPECT_TRUE(parse_csv("", "f").empty());
  EXPECT_TRUE(parse_csv("\n", "f").empty());
  EXPECT_TRUE(parse_csv("\r\n\r\n\n", "f").empty());
  const auto records = parse_csv("a\n\nb\n\r\n\n", "f");
  ASSERT_EQ(records.size(), 3u);
  EXPECT_THAT(records[1].fields, ElementsAre(""));
}

std::string failure(const std::string& text) {
  try {
    parse_csv(text, "f.csv");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInputMalformed);
    return error.what();
  }
  return "";
}

TEST(Csv, DamageIsNamedWithItsLine) {
  EXPECT_THAT(failure("a\nb,\"c\nd\n"), HasSubstr("f.csv:2: a quote is opened and never closed"));
  EXPECT_THAT(failure("a\nb \"c\" d\n"), HasSubstr("f.csv:2: a quote inside a field"));
  EXPECT_THAT(failure("\"a\n\"b\n"), HasSubstr("f.csv:2: text after a closing quote"));
  EXPECT_THAT(failure("a\rb\n"), HasSubstr("f.csv:1: a carriage return"));
  EXPECT_THAT(failure("\"a\"\"\n"), HasSubstr("f.csv:1: a quote is opened"));
}

TEST(Csv, WhatIsWrittenIsReadBack) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const std::string alphabet = "ab,\"\n\r é";
  for (int trial = 0; trial < 500; ++trial) {
    std::vector<std::vector<std::string>> rows(1 + random() % 4);
    std::string text;
    for (auto& row : rows) {
      row.resize(2 + random() % 3);
      for (size_t i = 0; i < row.size(); ++i) {
        for (size_t n = random() % 6; n > 0; --n) row[i] += alphabet[random() % alphabet.size()];
        std::string doubled;
        for (const char c : row[i]) doubled += c == '"' ? "\"\"" : std::string(1, c);
        text += (i > 0 ? ",\"" : "\"") + doubled + "\"";
      }
      text += random() % 2 == 0 ? "\n" : "\r\n";
    }
    const auto records = parse_csv(text, "f");
    ASSERT_EQ(records.size(), rows.size()) << text;
    for (size_t r = 0; r < rows.size(); ++r) ASSERT_EQ(records[r].fields, rows[r]) << text;
  }
}

}  // namespace
}  // namespace pare
