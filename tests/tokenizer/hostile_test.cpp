// Damaged and unsupported files: an error that names what is wrong, never a crash or wrong ids.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "pare/error.h"
#include "tests/tokenizer/small_tokenizer.h"

namespace pare {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

// Sets the value at a JSON pointer of the small tokenizer, and says how it was refused.
std::string refusal_with(const std::string& pointer, const json& value) {
  json file = small_tokenizer_json();
  file[json::json_pointer(pointer)] = value;
  return refusal(file.dump());
}

TEST(Hostile, TheSmallTokenizerItselfIsFine) {
  EXPECT_EQ(refusal(small_tokenizer_json().dump()), "");
}

TEST(Hostile, EveryTruncationIsRefused) {
  const std::string text = small_tokenizer_json().dump();
  for (size_t size = 0; size < text.size(); size += 7) {
    EXPECT_THAT(refusal(text.substr(0, size)), StartsWith("tokenizer.json: not valid JSON"));
  }
  for (const char* other : {"[]", "1", "null", "\"a\"", "{}", "\xFF", "{\"a\":\"\\ud800\"}"}) {
    EXPECT_THAT(refusal(other), StartsWith("tokenizer.json: ")) << other;
  }
  EXPECT_THAT(refusal(std::string(1'000'000, '[')), StartsWith("tokenizer.json: "));
}

TEST(Hostile, OtherModelsAreNamed) {
  for (const std::string type : {"WordPiece", "WordLevel"}) {
    EXPECT_EQ(
        refusal_with("/model/type", type),
        "tokenizer.json: model type \"" + type + "\" is not supported, expected BPE or Unigram");
  }
  EXPECT_THAT(refusal_with("/model", {{"vocab", {{"a", 0}}}}), HasSubstr("\"type\" is missing"));
  EXPECT_THAT(refusal_with("/model", nullptr), HasSubstr("\"model\" is missing"));
  EXPECT_THAT(refusal_with("/model", 3), HasSubstr("expected an object, found number"));
}

TEST(Hostile, UnsupportedKindsAreNamed) {
  EXPECT_THAT(refusal_with("/model/dropout", 0.1), HasSubstr("dropout"));
  EXPECT_THAT(refusal_with("/pre_tokenizer", {{"type", "UnicodeScripts"}}),
              HasSubstr("\"UnicodeScripts\""));
  EXPECT_THAT(refusal_with("/normalizer", {{"type", "Custom"}}), HasSubstr("\"Custom\""));
  EXPECT_THAT(refusal_with("/decoder", {{"type", "WordPiece"}}), HasSubstr("\"WordPiece\""));
  EXPECT_THAT(refusal_with("/post_processor", {{"type", "New"}}), HasSubstr("\"New\""));
  EXPECT_THAT(
      refusal_with("/pre_tokenizer", {{"type", "Sequence"},
                                      {"pretokenizers", json::array({{{"type", "FixedLength"}}})}}),
      HasSubstr("\"FixedLength\""));
}

TEST(Hostile, IdsAreChecked) {
  for (const json& bad :
       {json(-1), json(1.5), json("1"), json(nullptr), json(true), json(2147483647),
        json(2147483648U), json(std::numeric_limits<uint64_t>::max()), json(1e300),
        json(json::array())}) {
    EXPECT_THAT(refusal_with("/model/vocab/he", bad),
                AllOf(HasSubstr("\"he\""), HasSubstr("whole number")))
        << bad;
    EXPECT_THAT(refusal_with("/added_tokens/0/id", bad), HasSubstr("\"<s>\"")) << bad;
  }
  EXPECT_THAT(refusal_with("/model/vocab/he", 261), HasSubstr("261 belongs to another token"));
  EXPECT_THAT(refusal_with("/added_tokens/0/id", 5), HasSubstr("the vocabulary says 0"));
  EXPECT_THAT(refusal_with("/added_tokens/1", added_token(5, "new")), HasSubstr("id 5 belongs to"));
  json file = small_tokenizer_json();
  file["added_tokens"].push_back(added_token(300, "new"));
  file["added_tokens"].push_back(added_token(301, "new"));
  EXPECT_THAT(refusal(file.dump()), HasSubstr("two ids, 300 and 301"));
}

// The largest id is legal, and costs no memory of its size.
TEST(Hostile, TheLargestId) {
  json file = small_tokenizer_json();
  constexpr int32_t kLargest = 2147483646;
  file["model"]["vocab"]["he"] = kLargest;
  const Tokenizer tokenizer = load(file);
  EXPECT_EQ(tokenizer.vocab_size(), 2147483647);
  EXPECT_EQ(tokenizer.encode("he", false), std::vector<int32_t>({kLargest}));
  EXPECT_EQ(tokenizer.decode({kLargest}), "he");
}

TEST(Hostile, MergesAreChecked) {
  EXPECT_EQ(
      refusal_with("/model/merges/1", {"l", "absent"}),
      "tokenizer.json: merge 1 (\"l\", \"absent\"): token \"absent\" is not in the vocabulary");
  EXPECT_THAT(refusal_with("/model/merges/1", {"e", "h"}), HasSubstr("token \"eh\""));
  for (const json& bad : {json("l"), json("l l l"), json(""), json(3), json(nullptr),
                          json::array({"l"}), json({"l", "l", "l"}), json({"l", 1})}) {
    EXPECT_THAT(refusal_with("/model/merges/1", bad), HasSubstr("merge 1")) << bad;
  }
  EXPECT_THAT(refusal_with("/model/merges", "h e"), HasSubstr("expected an array"));
  EXPECT_THAT(refusal_with("/model/vocab", json::array()), HasSubstr("expected an object"));
  EXPECT_THAT(refusal_with("/model/vocab", json::object()), HasSubstr("empty"));
}

TEST(Hostile, PatternsAreChecked) {
  const auto split = [](const json& pattern) {
    return json{{"type", "Split"}, {"pattern", pattern}, {"behavior", "Isolated"}};
  };
  EXPECT_THAT(refusal_with("/pre_tokenizer", split({{"Regex", "a(b"}})),
              AllOf(StartsWith("tokenizer.json: "), HasSubstr("\"a(b\"")));
  EXPECT_THAT(refusal_with("/pre_tokenizer", split("a")), HasSubstr("\"pattern\""));
  EXPECT_THAT(refusal_with("/pre_tokenizer", split({{"Regex", 1}})), HasSubstr("string"));
  json unknown = split({{"String", "a"}});
  unknown["behavior"] = "Sideways";
  EXPECT_THAT(refusal_with("/pre_tokenizer", unknown), HasSubstr("\"Sideways\""));
  EXPECT_THAT(refusal_with("/pre_tokenizer", {{"type", "ByteLevel"}, {"use_regex", 1}}),
              HasSubstr("\"use_regex\""));
  EXPECT_THAT(refusal_with("/normalizer",
                           {{"type", "Replace"}, {"pattern", {{"Regex", "["}}}, {"content", ""}}),
              HasSubstr("regular expression"));
}

TEST(Hostile, TemplatesAreChecked) {
  const auto processor = [](const json& single, const json& ids) {
    return json{{"type", "TemplateProcessing"},
                {"single", single},
                {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", ids}}}}}};
  };
  const json text = {{"Sequence", {{"id", "A"}}}};
  const json start = {{"SpecialToken", {{"id", "<s>"}}}};
  EXPECT_EQ(
      refusal_with("/post_processor", processor(json::array({start, text}), json::array({0}))), "");
  EXPECT_THAT(
      refusal_with("/post_processor", processor(json::array({start, text}), json::array({999}))),
      HasSubstr("999"));
  EXPECT_THAT(
      refusal_with("/post_processor", processor(json::array({start, text}), json::array({-1}))),
      HasSubstr("-1"));
  EXPECT_THAT(refusal_with("/post_processor", processor(json::array({start}), json::array({0}))),
              HasSubstr("0 times"));
  EXPECT_THAT(
      refusal_with("/post_processor", processor(json::array({text, text}), json::array({0}))),
      HasSubstr("2 times"));
  EXPECT_THAT(refusal_with("/post_processor",
                           processor(json::array({{{"SpecialToken", {{"id", "absent"}}}}, text}),
                                     json::array({0}))),
              HasSubstr("absent"));
  EXPECT_THAT(
      refusal_with("/post_processor", {{"type", "BertProcessing"}, {"cls", json::array({"<s>"})}}),
      HasSubstr("\"cls\""));
}

TEST(Hostile, DeepSequencesAreRefused) {
  json nested = {{"type", "NFC"}};
  for (int i = 0; i < 1000; ++i) {
    nested = {{"type", "Sequence"}, {"normalizers", json::array({nested})}};
  }
  EXPECT_THAT(refusal_with("/normalizer", nested), HasSubstr("nested too deeply"));
}

TEST(Hostile, MessagesAreOneLine) {
  const std::string message =
      refusal_with("/model/type", std::string("a\nb\x01") + std::string(5000, 'x'));
  EXPECT_EQ(message.find('\n'), std::string::npos);
  EXPECT_LT(message.size(), 200U);
  EXPECT_THAT(message, HasSubstr("a\\x0ab\\x01"));
}

// Whatever one flipped byte does, the file loads or is refused.
TEST(Hostile, FlippedBytes) {
  const std::string text = small_tokenizer_json().dump();
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  int refused = 0;
  for (int i = 0; i < 1000; ++i) {
    std::string damaged = text;
    damaged[random() % damaged.size()] = static_cast<char>(random());
    try {
      const Tokenizer tokenizer = Tokenizer::from_json(damaged, kOrigin);
      tokenizer.encode("hello, w\u00F6rld<s> 123", true);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInputMalformed);
      EXPECT_THAT(error.what(), StartsWith("tokenizer.json: "));
      ++refused;
    }
  }
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace pare
