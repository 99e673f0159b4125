// Normalizers, pre-tokenizers and decoders of SentencePiece-like files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/support/reference.h"
#include "tests/tokenizer/random_text.h"
#include "tests/tokenizer/small_tokenizer.h"
#include "tokenizer/bpe.h"
#include "tokenizer/decoder.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pre_tokenizer.h"

namespace pare {
namespace {

using Pieces = std::vector<std::string>;
using nlohmann::json;
using ::testing::HasSubstr;

std::string normalize(NormalizerStep step, const std::string& text) {
  RegexScratch scratch;
  return Normalizer({std::move(step)}, "test").apply(text, scratch);
}

Pieces cut(std::vector<PreTokenizerStep> steps, const std::string& text, bool is_first = true) {
  RegexScratch scratch;
  const PieceList list = PreTokenizer(std::move(steps), "test").split(text, scratch, is_first);
  Pieces pieces;
  for (size_t i = 0; i < list.bounds.size(); ++i) pieces.emplace_back(list.piece(i));
  return pieces;
}

std::string decode(std::vector<DecoderStep> steps, const Pieces& tokens) {
  std::vector<DecodedToken> decoded;
  for (const std::string& token : tokens) decoded.push_back({token, false});
  return Decoder(std::move(steps), "test").decode(std::move(decoded));
}

// Temporaries of this type in a list make g++ 12 see uninitialised strings.
DecodeReplace replacing(const std::string& text, bool is_regex, const std::string& content) {
  DecodeReplace step;
  step.pattern.text = text;
  step.pattern.is_regex = is_regex;
  step.content = content;
  return step;
}

template <typename... Steps>
std::vector<DecoderStep> list_of(Steps... steps) {
  std::vector<DecoderStep> list;
  (list.emplace_back(std::move(steps)), ...);
  return list;
}

TEST(Normalizers, Strip) {
  EXPECT_EQ(normalize(NormalizeStrip{}, " \u3000a b\t\n"), "a b");
  EXPECT_EQ(normalize(NormalizeStrip{true, false}, " a "), "a ");
  EXPECT_EQ(normalize(NormalizeStrip{false, true}, " a "), " a");
  EXPECT_EQ(normalize(NormalizeStrip{}, " \u00A0 "), "");
}

// Marks go where they stand alone; what is composed stays.
TEST(Normalizers, StripAccents) {
  EXPECT_EQ(normalize(NormalizeStripAccents{}, "e\u0301\u00E9\u0903x\u20DD"), "e\u00E9x");
}

TEST(Normalizers, Nmt) {
  EXPECT_EQ(normalize(NormalizeNmt{},
                      "a\x01\x7F"
                      "b\tc\u200Bd\u2581e\uFEFF\u3000"),
            "ab c d e \u3000");
}

TEST(Normalizers, ByteLevel) { EXPECT_EQ(normalize(NormalizeByteLevel{}, " é"), "ĠÃ©"); }

TEST(Normalizers, Bert) {
  EXPECT_EQ(normalize(NormalizeBert{}, "\u00C9\tA\u00AD\u65E5x\uFFFD"), "e a \u65E5 x");
  EXPECT_EQ(normalize(NormalizeBert{true, false, false, false}, "\u00C9\t\u65E5"), "\u00C9 \u65E5");
}

TEST(Metaspace, Schemes) {
  const auto scheme = [](PrependScheme value, bool split = true) {
    return std::vector<PreTokenizerStep>{SplitMetaspace{"▁", value, split}};
  };
  EXPECT_EQ(cut(scheme(PrependScheme::kAlways), "Hey  you"), Pieces({"▁Hey", "▁", "▁you"}));
  EXPECT_EQ(cut(scheme(PrependScheme::kAlways), " Hey"), Pieces({"▁Hey"}));
  EXPECT_EQ(cut(scheme(PrependScheme::kAlways), "▁Hey "), Pieces({"▁Hey", "▁"}));
  EXPECT_EQ(cut(scheme(PrependScheme::kAlways, false), "Hey you"), Pieces({"▁Hey▁you"}));
  EXPECT_EQ(cut(scheme(PrependScheme::kNever), "Hey you"), Pieces({"Hey", "▁you"}));
  EXPECT_EQ(cut(scheme(PrependScheme::kFirst), "Hey you"), Pieces({"▁Hey", "▁you"}));
  EXPECT_EQ(cut(scheme(PrependScheme::kFirst), "Hey you", false), Pieces({"Hey", "▁you"}));
  EXPECT_EQ(cut({SplitOnDigits{}, SplitMetaspace{"▁", PrependScheme::kFirst, true}}, "a1"),
            Pieces({"▁a", "1"}));
  EXPECT_EQ(cut({SplitMetaspace{"_", PrependScheme::kAlways, true}}, "a _b"),
            Pieces({"_a", "_", "_b"}));
  EXPECT_EQ(cut(scheme(PrependScheme::kAlways), ""), Pieces());
}

TEST(WhiteSpace, IsDropped) {
  EXPECT_EQ(cut({SplitOnWhiteSpace{}}, " a\u3000b\n\n c"), Pieces({"a", "b", "c"}));
  EXPECT_EQ(cut({SplitOnWhiteSpace{}}, " \n"), Pieces());
}

// What the kinds of a tokenizer.json become: the pieces show through the byte alphabet.
TEST(PreTokenizerKinds, AreRead) {
  const auto tokens = [](const json& kind, const std::string& text) {
    json file = small_tokenizer_json();
    file["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         json::array(
             {kind, {{"type", "ByteLevel"}, {"use_regex", false}, {"add_prefix_space", true}}})}};
    const Tokenizer tokenizer = load(file);
    return tokenizer.decode(tokenizer.encode(text, false));
  };
  // Every piece of the first step gets its space from the second one.
  EXPECT_EQ(tokens({{"type", "Whitespace"}}, "a.b c"), " a . b c");
  EXPECT_EQ(tokens({{"type", "WhitespaceSplit"}}, "a.b c"), " a.b c");
  EXPECT_EQ(tokens({{"type", "BertPreTokenizer"}}, "a.b  c"), " a . b c");
  EXPECT_EQ(tokens({{"type", "CharDelimiterSplit"}, {"delimiter", "-"}}, "a-b"), " a b");
  EXPECT_EQ(tokens({{"type", "Metaspace"}, {"replacement", "_"}}, "a b"), " _a _b");
  EXPECT_EQ(
      tokens({{"type", "Metaspace"}, {"replacement", "_"}, {"add_prefix_space", false}}, "a b"),
      " a _b");
  json file = small_tokenizer_json();
  const auto refused = [&](const json& kind) {
    file["pre_tokenizer"] = kind;
    return refusal(file.dump());
  };
  EXPECT_THAT(refused({{"type", "Metaspace"}, {"replacement", ""}}), HasSubstr("one character"));
  EXPECT_THAT(refused({{"type", "Metaspace"}, {"replacement", "ab"}}), HasSubstr("one character"));
  EXPECT_THAT(refused({{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "x"}}),
              HasSubstr("always, first or never"));
}

TEST(NormalizerKinds, AreRead) {
  json file = small_tokenizer_json();
  const auto normalized = [&](const json& kind, const std::string& text) {
    file["normalizer"] = kind;
    const Tokenizer tokenizer = load(file);
    return tokenizer.decode(tokenizer.encode(text, false));
  };
  EXPECT_EQ(normalized({{"type", "Strip"}, {"strip_left", false}}, " a "), " a");
  EXPECT_EQ(normalized({{"type", "StripAccents"}}, "e\u0301"), "e");
  EXPECT_EQ(normalized({{"type", "Nmt"}}, "a\tb"), "a b");
  EXPECT_EQ(normalized({{"type", "BertNormalizer"}, {"lowercase", false}}, "A\t\u00C9"),
            "A \u00C9");
  EXPECT_EQ(normalized({{"type", "BertNormalizer"}}, "A\t\u00C9"), "a e");
  file["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "?"}};
  EXPECT_THAT(refusal(file.dump()), HasSubstr("base64"));
  file["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "AAAA"}};
  EXPECT_THAT(refusal(file.dump()), HasSubstr("3 bytes long"));
}

TEST(Decoders, OfLlama) {
  const auto steps = list_of(replacing("▁", false, " "), DecodeByteFallback{}, DecodeFuse{},
                             DecodeStrip{" ", 1, 0});
  EXPECT_EQ(decode(steps, {"▁Hi", "▁▁", "<0xE6>", "<0x97>", "<0xA5>", "<0x0a>"}), "Hi  日<0x0a>");
  EXPECT_EQ(decode(steps, {"<0xE6>"}), "\xE6");
  EXPECT_EQ(decode(steps, {}), "");
}

TEST(Decoders, Kinds) {
  EXPECT_EQ(decode(list_of(DecodeMetaspace{}), {"▁a▁", "▁b", "c"}), "a bc");
  EXPECT_EQ(decode(list_of(DecodeMetaspace{"▁", false}), {"▁a", "▁b"}), " a b");
  EXPECT_EQ(decode(list_of(DecodeSuffix{"</w>"}), {"he", "llo</w>", "you</w>"}), "hello you");
  EXPECT_EQ(decode(list_of(DecodeStrip{"x", 2, 1}), {"xxxaxx", "x"}), "xax");
  EXPECT_EQ(decode(list_of(DecodeStrip{"é", 9, 9}), {"ééé"}), "");
  EXPECT_EQ(decode(list_of(replacing("[ab]+", true, "-")), {"abc", "b"}), "-c-");
  // Half a character is no text for a regular expression.
  EXPECT_EQ(decode(list_of(DecodeByteFallback{}, replacing(".", true, "x")), {"<0xE6>"}), "x");
  EXPECT_EQ(decode(list_of(DecodeByteLevel{}), {"Ġa", "日"}), " a日");
}

TEST(Decoders, AreChecked) {
  json file = small_tokenizer_json();
  const auto refused = [&](const json& kind) {
    file["decoder"] = kind;
    return refusal(file.dump());
  };
  EXPECT_EQ(refused({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}), "");
  EXPECT_THAT(refused({{"type", "Strip"}, {"content", ""}}), HasSubstr("one character"));
  EXPECT_THAT(refused({{"type", "Strip"}, {"content", " "}, {"start", -1}}), HasSubstr("start"));
  EXPECT_THAT(refused({{"type", "Strip"}, {"content", " "}, {"start", 1e9}}), HasSubstr("start"));
  EXPECT_THAT(refused({{"type", "Replace"}, {"content", " "}}), HasSubstr("pattern"));
  EXPECT_THAT(refused({{"type", "Metaspace"}}), HasSubstr("replacement"));
}

// Byte-pair encoding of files that are not byte-level.
TEST(BytePairs, ByteFallbackAndUnknown) {
  BpeModel model;
  model.vocabulary = {{"<unk>", 0}, {"a", 1}, {"<0xC3>", 2}, {"<0xA9>", 3}};
  model.unknown_token = "<unk>";
  model.fuse_unknown = true;
  model.byte_fallback = true;
  const Bpe bpe(model, "test");
  BpeCache cache;
  std::vector<int32_t> ids;
  bpe.encode("aé日本é", cache, ids);
  EXPECT_EQ(ids, std::vector<int32_t>({1, 2, 3, 0, 2, 3}));
}

TEST(BytePairs, PrefixAndSuffix) {
  BpeModel model;
  model.vocabulary = {{"a", 0}, {"##b", 1}, {"##b</w>", 2}, {"ab", 3}, {"a</w>", 4}};
  model.merges = {{"a", "##b"}};
  model.continuing_subword_prefix = "##";
  model.end_of_word_suffix = "</w>";
  const Bpe bpe(model, "test");
  BpeCache cache;
  std::vector<int32_t> ids;
  for (const char* word : {"a", "ab", "abb"}) bpe.encode(word, cache, ids);
  EXPECT_EQ(ids, std::vector<int32_t>({4, 0, 2, 3, 2}));
}

// Where no token reaches over the start of a run of "▁", cutting there changes nothing; an unused
// token that does reach over it keeps the text whole.
TEST(BytePairs, CuttingAtSpacesChangesNothing) {
  const std::string text =
      read_file(testing::reference_dir() + "/tokenizers/llama2/tokenizer.json");
  if (text.empty()) GTEST_SKIP() << "no reference data in " << testing::reference_dir();
  auto whole = json::parse(text);
  whole["model"]["vocab"]["x▁x"] = 2000;
  const Tokenizer cutting = Tokenizer::from_json(text, kOrigin);
  const Tokenizer keeping = load(whole);
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int i = 0; i < 500; ++i) {
    const std::string sample = random_text(random, random() % 200);
    ASSERT_EQ(cutting.encode(sample, true), keeping.encode(sample, true)) << sample;
  }
}

}  // namespace
}  // namespace pare
