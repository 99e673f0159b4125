// A hand-made tokenizer whose ids can be followed on paper.
#include "tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "pare/error.h"
#include "tests/tokenizer/small_tokenizer.h"

namespace pare {
namespace {

using Ids = std::vector<int32_t>;

constexpr int32_t byte_id(char c) { return 2 + static_cast<uint8_t>(c); }

// As the reference implementation reads a text: special tokens that it spells are special.
Ids parsed(const Tokenizer& tokenizer, const std::string& text) {
  return tokenizer.encode(text, {.add_special_tokens = false, .parse_special = true});
}

TEST(SmallTokenizer, MergesInTheOrderOfTheirRank) {
  const Tokenizer tokenizer = load(small_tokenizer_json());
  EXPECT_EQ(tokenizer.encode("hello", false), Ids({261}));
  EXPECT_EQ(tokenizer.encode("hell", false), Ids({260}));
  EXPECT_EQ(tokenizer.encode("helll", false), Ids({260, byte_id('l')}));
  EXPECT_EQ(tokenizer.encode("elll", false), Ids({byte_id('e'), 259, byte_id('l')}));
  EXPECT_EQ(tokenizer.encode("a hello", false), Ids({byte_id('a'), byte_id(' '), 261}));
  EXPECT_EQ(tokenizer.encode("", false), Ids());
  EXPECT_EQ(tokenizer.vocab_size(), 262);
  EXPECT_EQ(tokenizer.token_to_id("hello"), 261);
  EXPECT_EQ(tokenizer.token_to_id("<s>"), 0);
  EXPECT_EQ(tokenizer.token_to_id("absent"), -1);
}

TEST(SmallTokenizer, MergesAsStringsMeanTheSame) {
  auto json = small_tokenizer_json();
  json["model"]["merges"] = {"#version: 0.2", "h e", "l l", "he ll", "hell o"};
  json["model"].erase("type");  // Files of the first releases have none.
  EXPECT_EQ(load(json).encode("hello hell", false), Ids({261, byte_id(' '), 260}));
}

TEST(SmallTokenizer, IgnoreMergesTakesWholeWordsFirst) {
  auto json = small_tokenizer_json();
  json["model"]["vocab"]["lo"] = 262;
  EXPECT_EQ(load(json).encode("lo", false), Ids({byte_id('l'), byte_id('o')}));
  json["model"]["ignore_merges"] = true;
  EXPECT_EQ(load(json).encode("lo", false), Ids({262}));
}

TEST(SmallTokenizer, UnknownCharacters) {
  auto json = small_tokenizer_json();
  json["model"]["vocab"].erase("z");
  EXPECT_THROW(load(json).encode("hezz", false), Error);
  json["model"]["unk_token"] = "</s>";
  EXPECT_EQ(load(json).encode("hezzhe", false), Ids({258, 1, 1, 258}));
  json["model"]["fuse_unk"] = true;
  EXPECT_EQ(load(json).encode("hezzhez", false), Ids({258, 1, 258, 1}));
  json["model"]["unk_token"] = "absent";
  EXPECT_EQ(load(json).encode("he", false), Ids({258}));
  EXPECT_THROW(load(json).encode("z", false), Error);
}

TEST(SmallTokenizer, PostProcessors) {
  auto json = small_tokenizer_json();
  const nlohmann::json single = {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
                                 {{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
                                 {{"SpecialToken", {{"id", "</s>"}, {"type_id", 0}}}}};
  const nlohmann::json special = {
      {"<s>", {{"id", "<s>"}, {"ids", nlohmann::json::array({0})}, {"tokens", {"<s>"}}}},
      {"</s>", {{"id", "</s>"}, {"ids", {1, 1}}, {"tokens", {"</s>"}}}}};
  const nlohmann::json processor = {
      {"type", "TemplateProcessing"}, {"single", single}, {"special_tokens", special}};
  json["post_processor"] = processor;
  EXPECT_EQ(load(json).encode("he", true), Ids({0, 258, 1, 1}));
  EXPECT_EQ(load(json).encode("", true), Ids({0, 1, 1}));
  EXPECT_EQ(load(json).encode("he", false), Ids({258}));
  json["post_processor"] = {
      {"type", "RobertaProcessing"}, {"sep", {"</s>", 1}}, {"cls", {"<s>", 0}}};
  EXPECT_EQ(load(json).encode("he", true), Ids({0, 258, 1}));
  json["post_processor"] = {
      {"type", "Sequence"},
      {"processors", nlohmann::json::array({{{"type", "ByteLevel"}}, processor})}};
  EXPECT_EQ(load(json).encode("he", true), Ids({0, 258, 1, 1}));
}

TEST(SmallTokenizer, AddedTokensAreFoundInTheRawText) {
  const Tokenizer tokenizer = load(small_tokenizer_json());
  EXPECT_EQ(parsed(tokenizer, "he<s>ll</s>"),
            Ids({258, 0, 259, byte_id('<'), byte_id('/'), byte_id('s'), byte_id('>')}));
  EXPECT_EQ(tokenizer.decode({258, 0, 259}), "he<s>ll");
  EXPECT_EQ(tokenizer.decode({258, 0, 259}, /*skip_special_tokens=*/true), "hell");
}

TEST(SmallTokenizer, TheLongestAddedTokenWins) {
  auto json = small_tokenizer_json();
  json["added_tokens"].push_back(added_token(300, "<s"));
  json["added_tokens"].push_back(added_token(301, "<s>>"));
  const Tokenizer tokenizer = load(json);
  EXPECT_EQ(parsed(tokenizer, "<s>><s><s"), Ids({301, 0, 300}));
  EXPECT_EQ(tokenizer.vocab_size(), 302);
}

// A document that writes about "<s>" must not begin in its middle.
TEST(SmallTokenizer, SpecialTokensInATextAreText) {
  auto json = small_tokenizer_json();
  json["added_tokens"].push_back(added_token(300, "<s>b"));
  json["added_tokens"].push_back(added_token(301, "<s>ab", {{"special", true}}));
  const Tokenizer tokenizer = load(json);
  const Ids spelled = {byte_id('<'), byte_id('s'), byte_id('>')};
  EXPECT_EQ(tokenizer.encode("<s>", true), spelled);
  EXPECT_EQ(tokenizer.encode("<s>", EncodeOptions{}), spelled);
  EXPECT_EQ(parsed(tokenizer, "<s>"), Ids({0}));
  // Tokens that are not special are found, also where a special one would have hidden them.
  EXPECT_EQ(tokenizer.encode("<s>b", false), Ids({300}));
  EXPECT_EQ(parsed(tokenizer, "<s>ab"), Ids({301}));
  EXPECT_EQ(tokenizer.encode("<s>ab", false).size(), 5U);
}

// Not by way of the model either: by merges, as a whole word, or as a piece.
TEST(SmallTokenizer, TheModelMakesNoSpecialTokensFromText) {
  auto json = small_tokenizer_json();
  json["added_tokens"].push_back(added_token(260, "hell", {{"special", true}}));
  json["added_tokens"].push_back(added_token(byte_id('!'), "!", {{"special", true}}));
  EXPECT_EQ(load(json).encode("hell", false), Ids({258, 259}));
  EXPECT_EQ(load(json).encode("hello", false), Ids({258, 259, byte_id('o')}));
  EXPECT_EQ(load(json).encode("!", false), Ids({byte_id('!')}));  // Still a character.
  EXPECT_EQ(parsed(load(json), "hell"), Ids({260}));
  json["model"]["ignore_merges"] = true;
  EXPECT_EQ(load(json).encode("hell", false), Ids({258, 259}));
}

TEST(SmallTokenizer, TokenTextKeepsSpaces) {
  const Tokenizer tokenizer = load(small_tokenizer_json());
  EXPECT_EQ(tokenizer.token_text(byte_id(' ')), " ");
  EXPECT_EQ(tokenizer.token_text(258), "he");
  EXPECT_EQ(tokenizer.token_text(2 + 0xE4), "\xE4");
  EXPECT_EQ(tokenizer.token_text(0), "");
}

TEST(SmallTokenizer, StrippingTakesWhiteSpace) {
  auto json = small_tokenizer_json();
  json["added_tokens"].push_back(added_token(300, "[L]", {{"lstrip", true}}));
  json["added_tokens"].push_back(added_token(301, "[R]", {{"rstrip", true}}));
  const Tokenizer tokenizer = load(json);
  EXPECT_EQ(tokenizer.encode("he \u3000[L] he", false), Ids({258, 300, byte_id(' '), 258}));
  EXPECT_EQ(tokenizer.encode("he [R]\n\t he", false), Ids({258, byte_id(' '), 301, 258}));
  EXPECT_EQ(tokenizer.encode("[R] \u00A0 [L]", false), Ids({301, 300}));
}

TEST(SmallTokenizer, SingleWordsStandAlone) {
  auto json = small_tokenizer_json();
  json["added_tokens"].push_back(added_token(300, "ox", {{"single_word", true}}));
  const Tokenizer tokenizer = load(json);
  EXPECT_EQ(tokenizer.encode("ox.ox", false), Ids({300, byte_id('.'), 300}));
  EXPECT_EQ(tokenizer.encode("oxox", false),
            Ids({byte_id('o'), byte_id('x'), byte_id('o'), byte_id('x')}));
  EXPECT_EQ(tokenizer.encode("\u00E9ox", false).back(), byte_id('x'));  // A letter.
  EXPECT_EQ(tokenizer.encode("\u20ACox", false).back(), 300);           // A currency symbol.
}

TEST(SmallTokenizer, NormalizedTokensAreFoundAfterNormalization) {
  auto json = small_tokenizer_json();
  json["normalizer"] = {
      {"type", "Sequence"},
      {"normalizers", nlohmann::json::array({{{"type", "NFC"}}, {{"type", "Lowercase"}}})}};
  json["added_tokens"].push_back(added_token(300, "\u00C9T", {{"normalized", true}}));
  json["added_tokens"].push_back(added_token(301, "RAW"));
  const Tokenizer tokenizer = load(json);
  EXPECT_EQ(tokenizer.encode("e\u0301t", false), Ids({300}));
  EXPECT_EQ(tokenizer.encode("RAWHE", false), Ids({301, 258}));
  EXPECT_EQ(tokenizer.encode("raw", false).size(), 3U);
}

TEST(SmallTokenizer, Normalizers) {
  auto json = small_tokenizer_json();
  const auto decoded = [&](const nlohmann::json& normalizer, const std::string& text) {
    json["normalizer"] = normalizer;
    const Tokenizer tokenizer = load(json);
    return tokenizer.decode(parsed(tokenizer, text));
  };
  // UAX #15, figures 3 to 6: U+212B ANGSTROM SIGN, U+FB01, and a ligature under compatibility.
  EXPECT_EQ(decoded({{"type", "NFC"}}, "\u212B \uFB01"), "\u00C5 \uFB01");
  EXPECT_EQ(decoded({{"type", "NFD"}}, "\u212B \uFB01"), "A\u030A \uFB01");
  EXPECT_EQ(decoded({{"type", "NFKC"}}, "\u212B \uFB01 2\u2075"), "\u00C5 fi 25");
  EXPECT_EQ(decoded({{"type", "NFKD"}}, "\u212B \uFB01"), "A\u030A fi");
  EXPECT_EQ(decoded({{"type", "NFC"}}, std::string("e\u0301\0x", 5)), std::string("\u00E9\0x", 4));
  EXPECT_EQ(decoded({{"type", "Lowercase"}}, "\u00C9\u0130\u03A3"), "\u00E9i\u0307\u03C3");
  EXPECT_EQ(decoded({{"type", "Prepend"}, {"prepend", "_"}}, "a<s>b"), "_a<s>_b");
  EXPECT_EQ(
      decoded({{"type", "Replace"}, {"pattern", {{"String", "."}}}, {"content", "::"}}, "a.b."),
      "a::b::");
  EXPECT_EQ(decoded({{"type", "Replace"}, {"pattern", {{"Regex", "\\s+"}}}, {"content", " "}},
                    "a \n b\tc"),
            "a b c");
}

TEST(SmallTokenizer, InvalidUtf8BecomesReplacementCharacters) {
  const Tokenizer tokenizer = load(small_tokenizer_json());
  const auto decoded = [&](const std::string& text) {
    return tokenizer.decode(tokenizer.encode(text, false));
  };
  const std::string mark = "\uFFFD";
  EXPECT_EQ(decoded("a\x80z"), "a" + mark + "z");
  // The Unicode Standard 15.0, table 3-8, 3-9 and 3-11.
  EXPECT_EQ(decoded("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82"
                    "A"),
            mark + mark + mark + mark + mark + mark + mark + mark + "A");
  EXPECT_EQ(decoded("\xED\xA0\x80\xED\xBF\xBF\xED\xAF"
                    "A"),
            mark + mark + mark + mark + mark + mark + mark + mark + "A");
  EXPECT_EQ(decoded("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF"
                    "A"),
            mark + mark + mark + mark + "A");
  EXPECT_EQ(decoded("\xE4\xB8"), mark);
}

TEST(SmallTokenizer, DecodeNamesAnUnknownId) {
  const Tokenizer tokenizer = load(small_tokenizer_json());
  for (const int32_t id : {-1, 262, 1 << 30}) {
    try {
      tokenizer.decode({id});
      ADD_FAILURE() << id;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(std::to_string(id)));
    }
  }
}

TEST(SmallTokenizer, ThreadsShareOne) {
  const Tokenizer tokenizer = load(small_tokenizer_json());
  std::string text;
  for (int i = 0; i < 500; ++i) text += "hello hell, he'll " + std::to_string(i);
  const Ids expected = tokenizer.encode(text, true);
  std::vector<Ids> results(4);
  {
    std::vector<std::jthread> threads;
    threads.reserve(results.size());
    for (Ids& result : results) {
      threads.emplace_back([&] { result = tokenizer.encode(text, true); });
    }
  }
  for (const Ids& result : results) EXPECT_EQ(result, expected);
}

}  // namespace
}  // namespace pare
