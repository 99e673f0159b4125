// Names that must not reach a terminal as they are, and the pieces that fit text to a width.
#include "tools/plain_text.h"

#include <gmock/gmock.h>

#include <random>
#include <sstream>

#include "tools/table.h"

namespace pare::tools {
namespace {

TEST(PlainText, KeepsTextAndReplacesTheRest) {
  EXPECT_EQ(plain_text("± é – … 中 😀"), "± é – … 中 😀");
  EXPECT_EQ(plain_text("a\nb\tc\rd\x1b[31m\x7f"), "a b c d?[31m?");
  EXPECT_EQ(plain_text(std::string("a\0b", 3)), "a?b");
  EXPECT_EQ(plain_text("\xc2\x9b"
                       "31m"),
            "?31m");  // C1: a terminal's CSI
  EXPECT_EQ(plain_text("a\xe2\x80\xae"
                       "b"),
            "a?b");  // right-to-left override
  EXPECT_EQ(plain_text("a\xe2\x80\xa8"
                       "b"),
            "a?b");                                   // line separator
  EXPECT_EQ(plain_text("\xff\xc3"), "??");            // no UTF-8
  EXPECT_EQ(plain_text("\xc0\xaf"), "??");            // overlong
  EXPECT_EQ(plain_text("\xed\xa0\x80"), "???");       // surrogate
  EXPECT_EQ(plain_text("\xf4\x90\x80\x80"), "????");  // above U+10FFFF
  EXPECT_EQ(plain_text(""), "");
}

TEST(ShortenedMiddle, KeepsBothEnds) {
  EXPECT_EQ(shortened_middle("abcdefgh", 8), "abcdefgh");
  EXPECT_EQ(shortened_middle("abcdefgh", 7), "abc…fgh");
  EXPECT_EQ(shortened_middle("abcdefgh", 2), "a…");
  EXPECT_EQ(shortened_middle("abcdefgh", 1), "…");
  EXPECT_EQ(shortened_middle("abcdefgh", 0), "");
  EXPECT_EQ(shortened_middle("é§±é§±é§±", 5), "é§…§±");
}

TEST(Wrapped, BreaksAtSpacesAndWithinLongWords) {
  EXPECT_EQ(wrapped("aa bb cc", 5), "aa bb\ncc\n");
  EXPECT_EQ(wrapped("± ± ±", 3), "± ±\n±\n");
  EXPECT_EQ(wrapped("a bbbbbbb c", 3), "a\nbbb\nbbb\nb c\n");
  EXPECT_EQ(wrapped("  a  b ", 10), "a b\n");
  EXPECT_EQ(wrapped("", 10), "");
}

TEST(Wrapped, LosesNothingAtAnyWidth) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int trial = 0; trial < 200; ++trial) {
    std::string text;
    std::string letters;
    for (uint32_t i = random() % 200; i > 0; --i) {
      const char* piece = random() % 5 == 0 ? " " : random() % 2 == 0 ? "é" : "x";
      text += piece;
      if (*piece != ' ') letters += piece;
    }
    const size_t columns = 1 + random() % 30;
    std::string kept;
    std::istringstream lines(wrapped(text, columns));
    for (std::string line; std::getline(lines, line);) {
      EXPECT_LE(display_width(line), columns);
      for (const char letter : line) {
        if (letter != ' ') kept += letter;
      }
    }
    EXPECT_EQ(kept, letters);
  }
}

TEST(Table, FitShortensTheWidestColumnFirst) {
  TextTable table({"Model", "Method", "x"}, {});
  table.add({std::string(30, 'a'), std::string(12, 'b'), std::string(10, 'c')});
  EXPECT_EQ(table.width(), 56U);
  EXPECT_EQ(table.fit(40, {0, 1}).width(), 40U);
  EXPECT_THAT(table.render(), ::testing::HasSubstr("aaaaaaa…aaaaaa  bbbbbbbbbbbb  cccccccccc\n"));
  EXPECT_EQ(table.fit(10, {0, 1}).width(), 8U + 2 + 8 + 2 + 10);  // not below 8
}

}  // namespace
}  // namespace pare::tools
