#include "calib/pair_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "core/sha256.h"
#include "pare/error.h"
#include "tests/support/memory_source.h"
#include "tests/support/program.h"

namespace pare {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MemorySource;
using testing::TempDir;
using testing::write_file;
using Ids = std::vector<int32_t>;

// A Unigram tokenizer whose letters "a" … "h" are the tokens 4 … 11, "▁" is 3, and whose texts
// begin with `before` and end in "</s>", which is 1.
std::string tokenizer_json(const std::vector<std::string>& before) {
  using Json = nlohmann::json;
  const auto special = [](const std::string& token, int id) {
    return Json{{"id", id},        {"content", token},    {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", true}};
  };
  Json vocab = Json::array({Json::array({"<s>", 0.0}), Json::array({"</s>", 0.0}),
                            Json::array({"<unk>", 0.0}), Json::array({"▁", -2.0})});
  for (char letter = 'a'; letter <= 'h'; ++letter) {
    vocab.push_back(Json::array({std::string(1, letter), -3.0}));
  }
  Json single = Json::array();
  Json specials = Json::object();
  const auto add_special = [&](const std::string& token, int id) {
    single.push_back({{"SpecialToken", {{"id", token}, {"type_id", 0}}}});
    specials[token] = {{"id", token}, {"ids", Json::array({id})}, {"tokens", Json::array({token})}};
  };
  for (const std::string& token : before) add_special(token, 0);
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  add_special("</s>", 1);
  return Json{
      {"version", "1.0"},
      {"added_tokens", Json::array({special("<s>", 0), special("</s>", 1), special("<unk>", 2)})},
      {"normalizer", nullptr},
      {"pre_tokenizer",
       {{"type", "Metaspace"},
        {"replacement", "▁"},
        {"prepend_scheme", "always"},
        {"split", true}}},
      {"post_processor",
       {{"type", "TemplateProcessing"},
        {"single", single},
        {"pair", Json::array({{{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
                              {{"Sequence", {{"id", "B"}, {"type_id", 1}}}}})},
        {"special_tokens", specials}}},
      {"decoder", nullptr},
      {"model", {{"type", "Unigram"}, {"unk_id", 2}, {"vocab", vocab}}}}
      .dump();
}

class PairSource : public ::testing::Test {
 protected:
  PairSource() {
    graph_.encoder.emplace();
    set_vocabularies(12, 12);
    graph_.decoder_start = 2;
    source_.mutable_text_files()["tokenizer.json"] = tokenizer_json({});
  }

  void set_vocabularies(int64_t sources, int64_t targets) {
    graph_.encoder->embedding.vocab_size = sources;
    graph_.embedding.vocab_size = graph_.vocab_size = targets;
  }

  std::string write(const std::string& content) {
    write_file(folder_ / "pairs.jsonl", content);
    return folder_ / "pairs.jsonl";
  }

  TokenPairs read(const std::string& content, const PairOptions& options = {}) {
    return read_pairs(write(content), source_, graph_, options);
  }

  std::string refusal(ErrorCode code, const std::function<void()>& call) {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "no error";
    return {};
  }

  std::string refusal(const std::string& content, const PairOptions& options = {}) {
    return refusal(ErrorCode::kInputMalformed, [&] { read(content, options); });
  }

  static Ids source_of(const TokenWindows& windows, size_t window) {
    const auto& sources = windows.sources;
    return {sources.ids.begin() + sources.begin[window],
            sources.ids.begin() + sources.begin[window + 1]};
  }
  static Ids decoder_of(const TokenWindows& windows, size_t window) {
    const auto begin = windows.ids.begin() + static_cast<int64_t>(window) * windows.length;
    return {begin, begin + windows.used[window]};
  }

  TempDir folder_;
  MemorySource source_{"{}"};
  ModelGraph graph_;
};

TEST_F(PairSource, TextsGetSpecialTokensAndTheDecoderTheStartToken) {
  const TokenWindows windows = read("{\"source\": \"abc\", \"target\": \"hg\"}\n").windows;
  EXPECT_EQ(windows.count, 1);
  EXPECT_THAT(source_of(windows, 0), ElementsAre(3, 4, 5, 6, 1));
  EXPECT_THAT(decoder_of(windows, 0), ElementsAre(2, 3, 11, 10, 1));
}

TEST_F(PairSource, TokensInFrontOfATextStayBehindTheStartToken) {
  source_.mutable_text_files()["tokenizer.json"] = tokenizer_json({"<s>"});
  const TokenWindows windows = read("{\"source\": \"a\", \"target\": \"b\"}").windows;
  EXPECT_THAT(source_of(windows, 0), ElementsAre(0, 3, 4, 1));
  EXPECT_THAT(decoder_of(windows, 0), ElementsAre(2, 0, 3, 5, 1));
}

TEST_F(PairSource, WindowsAreAsLongAsTheLongestAndPaddedBehind) {
  const TokenPairs pairs = read(
      "{\"source\": [4, 5, 6], \"target\": [7, 1]}\n"
      "\n"
      "{\"source\": [8], \"target\": [9, 10, 11, 1]}\n");
  const TokenWindows& windows = pairs.windows;
  EXPECT_EQ(windows.count, 2);
  EXPECT_EQ(windows.length, 5);
  EXPECT_THAT(windows.used, ElementsAre(3, 5));
  EXPECT_THAT(windows.ids, ElementsAre(2, 7, 1, 2, 2, 2, 9, 10, 11, 1));
  EXPECT_THAT(windows.sources.ids, ElementsAre(4, 5, 6, 8));
  EXPECT_THAT(windows.sources.begin, ElementsAre(0, 3, 4));
  EXPECT_EQ(windows.sources.longest(), 3);
  EXPECT_EQ(pairs.cut, 0);
}

TEST_F(PairSource, IdsComeWithOrWithoutTheStartToken) {
  const TokenWindows windows =
      read(
          "{\"input_ids\": [4, 1], \"decoder_input_ids\": [0, 5, 6]}\n"
          "{\"input_ids\": [4, 1], \"labels\": [5, 6, -100, -100]}\n"
          "{\"input_ids\": [4, 1], \"labels\": [9], \"decoder_input_ids\": [0, 5], "
          "\"source\": \"x\", \"target\": \"y\"}\n")
          .windows;
  EXPECT_THAT(decoder_of(windows, 0), ElementsAre(0, 5, 6));
  EXPECT_THAT(decoder_of(windows, 1), ElementsAre(2, 5, 6));
  EXPECT_THAT(decoder_of(windows, 2), ElementsAre(0, 5));
}

TEST_F(PairSource, TheLanguageOfATargetMovesToItsFront) {
  graph_.decoder_start = kLastTargetToken;
  const TokenWindows windows = read(
                                   "{\"source\": [4], \"target\": [5, 6, 1, 11]}\n"
                                   "{\"input_ids\": [4], \"decoder_input_ids\": [11, 5, 6, 1]}\n")
                                   .windows;
  EXPECT_THAT(decoder_of(windows, 0), ElementsAre(11, 5, 6, 1));
  EXPECT_THAT(decoder_of(windows, 1), ElementsAre(11, 5, 6, 1));
}

TEST_F(PairSource, CutTextsKeepTheirSpecialTokens) {
  const TokenPairs pairs = read(
      "{\"source\": \"abcdefgh\", \"target\": \"abcdefgh\"}\n"
      "{\"source\": [4, 5, 6, 7, 8, 9], \"target\": [4, 5, 6, 7, 8, 9]}\n"
      "{\"source\": \"a\", \"target\": \"b\"}\n",
      {.length = 5});
  EXPECT_EQ(pairs.cut, 2);
  const TokenWindows& windows = pairs.windows;
  EXPECT_THAT(source_of(windows, 0), ElementsAre(3, 4, 5, 6, 1));
  EXPECT_THAT(decoder_of(windows, 0), ElementsAre(2, 3, 4, 5, 1));
  EXPECT_THAT(source_of(windows, 1), ElementsAre(4, 5, 6, 7, 8));
  EXPECT_THAT(decoder_of(windows, 1), ElementsAre(2, 4, 5, 6, 7));
  EXPECT_LE(windows.length, 5);
}

TEST_F(PairSource, SpecialTokensInATextAreTextUnlessAskedFor) {
  const std::string pair = "{\"source\": \"a</s>\", \"target\": \"b\"}";
  EXPECT_THAT(source_of(read(pair, {.parse_special = true}).windows, 0), ElementsAre(3, 4, 1, 1));
  const Ids plain = source_of(read(pair).windows, 0);
  EXPECT_EQ(std::count(plain.begin(), plain.end(), 1), 1);
}

TEST_F(PairSource, ASeedShufflesAndACountStopsEarly) {
  std::string lines;
  for (int i = 0; i < 8; ++i) {
    lines += "{\"source\": [" + std::to_string(i) + "], \"target\": [" + std::to_string(i) + "]}\n";
  }
  const auto order = [&](const PairOptions& options) {
    const TokenWindows windows = read(lines, options).windows;
    return windows.sources.ids;
  };
  EXPECT_THAT(order({.count = 3}), ElementsAre(0, 1, 2));
  Ids all(8);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(order({}), all);
  const Ids shuffled = order({.seed = 5});
  EXPECT_NE(shuffled, all);
  EXPECT_THAT(shuffled, ::testing::UnorderedElementsAreArray(all));
  EXPECT_EQ(order({.seed = 5}), shuffled);
  EXPECT_THAT(refusal(lines, {.count = 9}), AllOf(HasSubstr("holds 8 pairs"), HasSubstr("9")));
}

TEST_F(PairSource, DigestsTellPairsApart) {
  const auto digest = [&](const std::string& content) { return read(content).windows.ids_sha256; };
  const std::string one = digest("{\"source\": [4, 5], \"target\": [6]}");
  EXPECT_EQ(one, digest("{\"target\": [6], \"source\": [4, 5]}\n"));
  EXPECT_NE(one, digest("{\"source\": [4], \"target\": [5, 6]}"));
  EXPECT_NE(one, digest("{\"source\": [4, 5], \"target\": [7]}"));
  const std::string content = "{\"source\": [4, 5], \"target\": [6]}";
  EXPECT_EQ(read(content).text_sha256, sha256_hex(content));
  // Two tokens, 4 and 5; two, 2 and 6.
  const std::vector<int32_t> bytes = {2, 4, 5, 2, 2, 6};
  EXPECT_EQ(one, sha256_hex(std::as_bytes(std::span<const int32_t>(bytes))));
}

TEST_F(PairSource, TheFirstWindowsAreThoseOfAShorterFile) {
  const std::string two =
      "{\"source\": [4, 5], \"target\": [6, 7]}\n{\"source\": [8], \"target\": [9, 1]}\n";
  const TokenWindows all = read(two + "{\"source\": [1, 1], \"target\": [3, 9]}\n").windows;
  const TokenWindows first = first_windows(all, 2);
  const TokenWindows expected = read(two).windows;
  EXPECT_EQ(first.count, 2);
  EXPECT_EQ(first.ids, expected.ids);
  EXPECT_EQ(first.used, expected.used);
  EXPECT_EQ(first.sources.ids, expected.sources.ids);
  EXPECT_EQ(first.sources.begin, expected.sources.begin);
  EXPECT_EQ(first.ids_sha256, expected.ids_sha256);
}

TEST_F(PairSource, WhatIsNoPairIsNamedByFileAndLine) {
  for (const char* line :
       {"{\"text\": \"a\"}", "{\"source\": \"a\"}", "{\"target\": \"a\"}", "{\"input_ids\": [4]}",
        "{\"labels\": [4]}", "{\"source\": 7, \"target\": \"a\"}", "[4, 5]", "{\"source\": "}) {
    EXPECT_THAT(refusal(std::string("{\"source\": [4], \"target\": [5]}\n") + line),
                AllOf(HasSubstr("pairs.jsonl, line 2")))
        << line;
  }
  EXPECT_THAT(refusal("\n \n"), HasSubstr("holds no pair"));
  EXPECT_THAT(refusal("{\"source\": [], \"target\": [5]}"), HasSubstr("source has no token"));
  EXPECT_THAT(refusal("{\"source\": [4], \"target\": []}"), HasSubstr("target has no token"));
  EXPECT_THAT(refusal("{\"input_ids\": [4], \"decoder_input_ids\": [2]}"),
              HasSubstr("nothing to predict"));
  EXPECT_THAT(refusal("{\"source\": [4], \"target\": [5, -1]}"), HasSubstr("-1"));
}

TEST_F(PairSource, IdsOutsideOfEitherVocabularyAreRefused) {
  set_vocabularies(20, 8);
  EXPECT_THAT(read("{\"source\": [19], \"target\": [7]}").windows.ids, ElementsAre(2, 7));
  EXPECT_THAT(refusal("{\"source\": [20], \"target\": [7]}"),
              AllOf(HasSubstr("line 1, source"), HasSubstr("20"), HasSubstr("memory")));
  EXPECT_THAT(refusal("{\"source\": [19], \"target\": [8]}"),
              AllOf(HasSubstr("line 1, target"), HasSubstr("vocabulary of 8")));
}

TEST_F(PairSource, TextNeedsOneTokenizerForBothSides) {
  const std::string text = "{\"source\": \"a\", \"target\": \"b\"}";
  source_.mutable_text_files().clear();
  EXPECT_THAT(
      refusal(ErrorCode::kInputMissing, [&] { read(text); }),
      AllOf(HasSubstr("tokenizer.json"), HasSubstr("\"input_ids\""), HasSubstr("vocab-src.json")));
  EXPECT_EQ(read("{\"source\": [4], \"target\": [5]}").windows.count, 1);
  set_vocabularies(12, 13);
  EXPECT_THAT(refusal(text), AllOf(HasSubstr("12 tokens"), HasSubstr("13"), HasSubstr("labels")));
}

TEST_F(PairSource, OtherFilesAreRefusedBeforeTheyAreRead) {
  write_file(folder_ / "text.txt", "a text");
  EXPECT_THAT(refusal(ErrorCode::kInputMalformed,
                      [&] { read_pairs(folder_ / "text.txt", source_, graph_, {}); }),
              AllOf(HasSubstr("text.txt"), HasSubstr(".jsonl"), HasSubstr("\"source\"")));
  EXPECT_THAT(refusal(ErrorCode::kInputMissing,
                      [&] { read_pairs(folder_ / "none.jsonl", source_, graph_, {}); }),
              HasSubstr("none.jsonl"));
  EXPECT_THAT(refusal(ErrorCode::kUsage,
                      [&] { read("{\"source\": [4], \"target\": [5]}", {.length = 1}); }),
              HasSubstr("at least 2"));
  EXPECT_THAT(refusal(std::string("{\"source\": [4], \"target\": [5]}\n\0", 33)), HasSubstr("NUL"));
}

}  // namespace
}  // namespace pare
