// How text is cut into words: every pre-tokenizer, every behavior.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tokenizer/byte_alphabet.h"
#include "tokenizer/pre_tokenizer.h"

namespace pare {
namespace {

using Pieces = std::vector<std::string>;

Pieces cut(std::vector<PreTokenizerStep> steps, const std::string& text) {
  RegexScratch scratch;
  const PieceList list = PreTokenizer(std::move(steps), "test").split(text, scratch);
  Pieces pieces;
  for (size_t i = 0; i < list.bounds.size(); ++i) pieces.emplace_back(list.piece(i));
  return pieces;
}

Pieces on_dash(SplitBehavior behavior, bool invert = false) {
  return cut({SplitOnPattern{{"-", false}, behavior, invert}}, "the-final--countdown");
}

TEST(PreTokenizer, Behaviors) {
  EXPECT_EQ(on_dash(SplitBehavior::kRemoved), Pieces({"the", "final", "countdown"}));
  EXPECT_EQ(on_dash(SplitBehavior::kIsolated),
            Pieces({"the", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(on_dash(SplitBehavior::kMergedWithPrevious),
            Pieces({"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(on_dash(SplitBehavior::kMergedWithNext), Pieces({"the", "-final", "-", "-countdown"}));
  EXPECT_EQ(on_dash(SplitBehavior::kContiguous), Pieces({"the", "-", "final", "--", "countdown"}));
  EXPECT_EQ(on_dash(SplitBehavior::kRemoved, true), Pieces({"-", "-", "-"}));
  EXPECT_EQ(on_dash(SplitBehavior::kContiguous, true),
            Pieces({"the", "-", "final", "--", "countdown"}));
}

TEST(PreTokenizer, LiteralsAreNotPatterns) {
  EXPECT_EQ(cut({SplitOnPattern{{".", false}, SplitBehavior::kIsolated}}, "a.b"),
            Pieces({"a", ".", "b"}));
  EXPECT_EQ(cut({SplitOnPattern{{"", false}, SplitBehavior::kIsolated}}, "aé"), Pieces({"a", "é"}));
}

TEST(PreTokenizer, EmptyMatchesCut) {
  EXPECT_EQ(cut({SplitOnPattern{{"(?=[A-Z])", true}, SplitBehavior::kIsolated}}, "camelCaseX"),
            Pieces({"camel", "Case", "X"}));
  EXPECT_EQ(cut({SplitOnPattern{{"x*", true}, SplitBehavior::kIsolated}}, "axxé"),
            Pieces({"a", "xx", "é"}));
}

TEST(PreTokenizer, Digits) {
  EXPECT_EQ(cut({SplitOnDigits{true}}, "a12½٣b"), Pieces({"a", "1", "2", "½", "٣", "b"}));
  EXPECT_EQ(cut({SplitOnDigits{false}}, "a12½٣b"), Pieces({"a", "12½٣", "b"}));
}

// ASCII symbols count as punctuation, other symbols do not.
TEST(PreTokenizer, Punctuation) {
  EXPECT_EQ(cut({SplitOnPunctuation{SplitBehavior::kIsolated}}, "a+$b€。c"),
            Pieces({"a", "+", "$", "b€", "。", "c"}));
  EXPECT_EQ(cut({SplitOnPunctuation{SplitBehavior::kContiguous}}, "a+$b"),
            Pieces({"a", "+$", "b"}));
}

TEST(PreTokenizer, ByteLevel) {
  EXPECT_EQ(cut({SplitByteLevel{false, true}}, "I'll  go\n"),
            Pieces({"I", "'ll", "Ġ", "Ġgo", "Ċ"}));
  EXPECT_EQ(cut({SplitByteLevel{true, true}}, "go"), Pieces({"Ġgo"}));
  EXPECT_EQ(cut({SplitByteLevel{true, true}}, " go"), Pieces({"Ġgo"}));
  EXPECT_EQ(cut({SplitByteLevel{false, false}}, "I go"), Pieces({"IĠgo"}));
  // Every piece of the step before gets its space.
  EXPECT_EQ(cut({SplitOnDigits{true}, SplitByteLevel{true, false}}, "a1"), Pieces({"Ġa", "Ġ1"}));
}

// U+00B2 is two bytes, and the second one is spelled "²" again, a digit to the step behind.
TEST(PreTokenizer, StepsBehindByteLevelSeeTheAlphabet) {
  EXPECT_EQ(cut({SplitByteLevel{false, false}, SplitOnDigits{true}}, "²"), Pieces({"Â", "²"}));
}

TEST(PreTokenizer, NoStepsAndNoText) {
  EXPECT_EQ(cut({}, "a b"), Pieces({"a b"}));
  EXPECT_EQ(cut({SplitByteLevel{true, true}}, ""), Pieces());
}

TEST(ByteAlphabet, EveryByteHasOnePrintableCharacter) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes += static_cast<char>(byte);
  std::string text;
  append_byte_characters(text, bytes);
  std::string back;
  ASSERT_TRUE(append_character_bytes(back, text));
  EXPECT_EQ(back, bytes);
  EXPECT_TRUE(text.starts_with("ĀāĂ"));
  EXPECT_THAT(text, testing::HasSubstr("ğĠ!\"#"));
  EXPECT_THAT(text, testing::HasSubstr("}~ġĢ"));
  EXPECT_THAT(text, testing::HasSubstr("ł¡¢"));
  EXPECT_THAT(text, testing::HasSubstr("¬Ń®"));
  back = "kept";
  EXPECT_FALSE(append_character_bytes(back, "a b"));
  EXPECT_FALSE(append_character_bytes(back, "日"));
  EXPECT_EQ(back, "kept");
}

}  // namespace
}  // namespace pare
