// Oniguruma's meaning of patterns, matched by PCRE2.
#include "tokenizer/regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pare/error.h"
#include "tokenizer/oniguruma_syntax.h"
#include "tokenizer/unicode.h"

namespace pare {
namespace {

std::vector<std::string> matches(const std::string& pattern, const std::string& text) {
  RegexScratch scratch;
  std::vector<MatchSpan> spans;
  Regex(pattern, Regex::Kind::kPattern, "test").split(text, scratch, spans);
  std::vector<std::string> found;
  for (const MatchSpan& span : spans) {
    if (span.is_match) found.push_back(text.substr(span.begin, span.end - span.begin));
  }
  return found;
}

bool matches_all(const std::string& pattern, const std::string& text) {
  return matches(pattern, text) == std::vector<std::string>{text};
}

std::string refusal_of(const std::string& pattern) {
  try {
    Regex(pattern, Regex::Kind::kPattern, "here.json");
  } catch (const Error& error) {
    return error.code() == ErrorCode::kInputMalformed ? error.what() : "another code";
  }
  return "";
}

// Both sides of every class, for every code point: the written ranges against the property.
TEST(RegexSyntax, WhiteSpaceIsTheUnicodeProperty) {
  std::string space;
  std::string rest;
  for (char32_t value = 0; value <= 0x10FFFF; ++value) {
    if (value >= 0xD800 && value <= 0xDFFF) continue;
    append_utf8(is_white_space(value) ? space : rest, value);
  }
  EXPECT_TRUE(matches_all("\\s+", space));
  EXPECT_TRUE(matches_all("[\\s]+", space));
  EXPECT_TRUE(matches_all("[^\\S]+", space));
  EXPECT_TRUE(matches_all("\\S+", rest));
  EXPECT_TRUE(matches_all("[\\S]+", rest));
  EXPECT_TRUE(matches_all("[^\\s]+", rest));
  EXPECT_TRUE(matches_all("\\p{^Space}+", rest));
  EXPECT_TRUE(matches_all("\\S", "\u180E"));  // PCRE2 alone says \s.
}

TEST(RegexSyntax, WordsDigitsAndBoundaries) {
  EXPECT_TRUE(matches_all("\\w+", "a_1é\u0301\u203F"));  // A mark and a connector.
  EXPECT_TRUE(matches_all("\\W+", " ½-€"));
  EXPECT_TRUE(matches_all("\\d+", "12٣"));
  EXPECT_TRUE(matches_all("[\\h]+", "09afAF"));
  EXPECT_TRUE(matches_all("\\v", "\x0B"));
  EXPECT_TRUE(matches("\\v", "\n").empty());
  EXPECT_EQ(matches("\\b\\w", "ab cd\u203Fef").size(), 2U);
  EXPECT_EQ(matches("\\B\\w", "ab c").size(), 1U);
  EXPECT_TRUE(matches_all("[\\b]", "\b"));
}

TEST(RegexSyntax, Properties) {
  EXPECT_TRUE(matches_all("\\p{Letter}\\p{lu}\\p{Uppercase_Letter}", "aBC"));
  EXPECT_TRUE(matches_all("\\P{L}\\p{^L}[\\P{L}]", "1 2"));
  EXPECT_TRUE(matches_all("\\p{Han}+", "漢字"));
  EXPECT_TRUE(matches("\\p{Han}", "、").empty());  // Common; only its script extensions name Han.
  EXPECT_TRUE(matches_all("[[:alpha:][:digit:]]+", "aé1"));
  EXPECT_TRUE(matches_all("[a[bc[d-f]]g]+", "abcdefg"));
  EXPECT_TRUE(matches_all(" ?[^(\\s|[.,!?…。])]+", " word"));
  EXPECT_EQ(matches("[^(\\s|[.,!?…。])]+", "a。b|c").size(), 3U);
  EXPECT_THAT(refusal_of("\\p{Nonsense}"), testing::HasSubstr("not valid"));
}

TEST(RegexSyntax, CaseInsensitiveGroups) {
  EXPECT_TRUE(matches_all("(?i:'s|'LL)", "'S"));
  EXPECT_TRUE(matches_all("(?i:'s|'LL)", "'ll"));
  EXPECT_TRUE(matches_all("(?i:'s)", "'\u017F"));  // LONG S folds to s.
  EXPECT_TRUE(matches_all("(?i)ab", "aB"));
  EXPECT_TRUE(matches("(?i:a)b", "AB").empty());
}

TEST(RegexSyntax, NewlinesAndAnchors) {
  EXPECT_EQ(matches(".+", "a\rb\nc").size(), 2U);  // Only "\n" ends a line.
  EXPECT_TRUE(matches_all("(?m:.+)", "a\nb"));
  EXPECT_EQ(matches("^.", "a\nb").size(), 2U);
  EXPECT_EQ(matches(".$", "a\nb").size(), 2U);
  EXPECT_EQ(matches("\\A.", "a\nb").size(), 1U);
}

TEST(RegexSyntax, LookaheadKeepsTheLastSpace) {
  EXPECT_EQ(matches("\\s+(?!\\S)|\\s+", "a   b  "), (std::vector<std::string>{"  ", " ", "  "}));
  EXPECT_EQ(matches("\\s+(?!\\S)", "   "), std::vector<std::string>{"   "});
}

TEST(RegexSyntax, IntervalsAndBraces) {
  EXPECT_EQ(matches("a{,2}b", "aaab"), std::vector<std::string>{"aab"});
  EXPECT_TRUE(matches_all("a{2,}", "aaaa"));
  EXPECT_TRUE(matches_all("a{x}", "a{x}"));
  EXPECT_TRUE(matches_all("a{,}", "a{,}"));
  EXPECT_TRUE(matches("a++a", "aaa").empty());  // Possessive.
  EXPECT_TRUE(matches_all("\\u65e5\\x{672c}\\x41", "日本A"));
  EXPECT_TRUE(matches_all("[]a]+", "a]"));
}

TEST(RegexSyntax, WhatDiffersIsRefusedByName) {
  for (const auto& [pattern, word] :
       std::vector<std::pair<std::string, std::string>>{{"[a[^b]]", "inside a character class"},
                                                        {"[[a]-z]", "hyphen"},
                                                        {"[a-[z]]", "hyphen"},
                                                        {"[[a-]z]", "hyphen"},
                                                        {"[a[-z]]", "hyphen"},
                                                        {"[a[]]", "empty"},
                                                        {"[a-z&&[^b]]", "character class"},
                                                        {"[a&&b]", "&&"},
                                                        {"a{1,3}+", "+ behind an interval"},
                                                        {"a{2}?", "? behind {n}"},
                                                        {"(*FAIL)", "(*"},
                                                        {"(?x)a b", "(?x)"},
                                                        {"a(?i)b", "in the middle"},
                                                        {"(?~a)", "(?"},
                                                        {"(?R)", "(?"},
                                                        {"[\\W]", "negated set"},
                                                        {"\\xE3\\x80", "byte"},
                                                        {"\\C", "\\C"},
                                                        {"\\Qa\\E", "\\Q"},
                                                        {"[[:punct:]]", "[:punct:]"}}) {
    EXPECT_THAT(refusal_of(pattern),
                testing::AllOf(testing::HasSubstr("here.json"), testing::HasSubstr(word),
                               testing::HasSubstr("not supported")))
        << pattern;
  }
}

TEST(RegexSyntax, BrokenPatternsAreErrors) {
  for (const std::string pattern :
       {"(",     ")",      "[",        "[a",          "[^",        "a\\",     "\\p", "\\p{",
        "\\p{}", "*a",     "\\x{",     "\\x{110000}", "\\x{d800}", "\\u12",   "(?",  "(?<",
        "(?<n",  "a{3,2}", "a{99999}", "[b-a]",       "\\k<x>",    "(?<=a*)", "[[:"}) {
    EXPECT_THAT(refusal_of(pattern), testing::HasSubstr("here.json")) << pattern;
  }
  EXPECT_THAT(refusal_of(std::string(100000, '(')), testing::HasSubstr("here.json"));
  EXPECT_THAT(refusal_of("((((a{500}){500}){500}){500})"), testing::HasSubstr("here.json"));
}

TEST(Regex, EndlessBacktrackingIsAnError) {
  const Regex regex("(?:a+)+$", Regex::Kind::kPattern, "here.json");
  RegexScratch scratch;
  std::vector<MatchSpan> spans;
  try {
    regex.split(std::string(64, 'a') + "b", scratch, spans);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kLimitExceeded);
    EXPECT_THAT(error.what(), testing::HasSubstr("here.json"));
  }
}

// More than the compiled code's stack holds: one backtracking point a character.
TEST(Regex, LongMatchesNeedNoStack) {
  const std::string text(1'000'000, 'a');
  EXPECT_TRUE(matches_all("(?:a|b)+", text));
  EXPECT_TRUE(matches_all("[^\\r\\n\\p{L}\\p{N}]?\\p{L}+", text));
}

}  // namespace
}  // namespace pare
