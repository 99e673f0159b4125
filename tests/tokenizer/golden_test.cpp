// Reference values: ids that the reference implementation computed for hard strings.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "tests/support/reference.h"
#include "tests/tokenizer/small_tokenizer.h"
#include "tokenizer/open_tokenizer.h"

namespace pare {
namespace {

const std::string kReference = testing::reference_dir();

// One way to open one family.
struct Source {
  std::string family;
  std::vector<std::string> files;
  std::string cases;  // Which ids of golden.json hold.
  // SentencePiece takes "<s>" in a text for text, the tokenizers library for a token.
  bool parse_special;
};

void PrintTo(const Source& source, std::ostream* stream) {
  *stream << source.family << " from " << source.files.front();
}

class Golden : public ::testing::TestWithParam<Source> {
 protected:
  void SetUp() override {
    const std::string folder = kReference + "/tokenizers/" + GetParam().family + "/";
    const std::string golden = read_file(folder + "golden.json");
    for (const std::string& name : GetParam().files) files_[name] = read_file(folder + name);
    if (golden.empty() || files_.begin()->second.empty()) {
      GTEST_SKIP() << "no reference data in " << folder;
    }
    // The special tokens that its tokenizer.json names.
    if (files_.contains("vocab.json")) {
      files_["special_tokens_map.json"] =
          R"({"bos_token": "<|begin_of_text|>", "eos_token": {"content": "<|end_of_text|>"}})";
    }
    cases_ = nlohmann::json::parse(golden)[GetParam().cases];
    ASSERT_EQ(cases_.size(), 123U);
  }
  Tokenizer open() const { return open_tokenizer(files_, GetParam().family); }

  std::map<std::string, std::string> files_;
  nlohmann::json cases_;
};

TEST_P(Golden, EveryStringGivesTheIds) {
  const Tokenizer tokenizer = open();
  for (const auto& item : cases_) {
    const std::string text = item["text"];
    const std::vector<int32_t> expected = item["ids"];
    EXPECT_EQ(tokenizer.encode(text, {.parse_special = GetParam().parse_special}), expected)
        << text;
  }
}

// What a normalizer changed does not come back, but what came back is normalized: unknown
// characters leave two spaces where they were, which the next round makes one.
TEST_P(Golden, IdsDecodeToTheNormalizedText) {
  const Tokenizer tokenizer = open();
  const auto round = [&](const std::string& text) {
    return tokenizer.decode(tokenizer.encode(text, true), true);
  };
  size_t same = 0;
  for (const auto& item : cases_) {
    const std::string text = item["text"];
    const std::string back = round(text);
    const std::string settled = round(back);
    EXPECT_EQ(round(settled), settled) << text;
    same += back == text ? 1 : 0;
  }
  if (GetParam().family == "qwen2") {
    EXPECT_EQ(same, 122U);  // One string is not in form C.
  } else if (GetParam().family == "t5") {
    EXPECT_EQ(same, 12U);  // Unknown characters and white space are lost.
  } else {
    EXPECT_EQ(same, 123U);
  }
}

// Plain text never gives a special token, whatever it spells.
TEST_P(Golden, SpecialTokensAreTextUnlessAskedFor) {
  const Tokenizer tokenizer = open();
  for (const char* content : {"<s>", "</s>", "<pad>", "<|begin_of_text|>", "<|end_of_text|>"}) {
    const int32_t special = tokenizer.token_to_id(content);
    if (special < 0) continue;
    const std::string text = std::string("hi ") + content + " there" + content;
    const auto plain = tokenizer.encode(text, false);
    EXPECT_EQ(std::count(plain.begin(), plain.end(), special), 0) << content;
    const auto parsed =
        tokenizer.encode(text, {.add_special_tokens = false, .parse_special = true});
    EXPECT_EQ(std::count(parsed.begin(), parsed.end(), special), 2) << content;
  }
}

const std::vector<std::string> kJson = {"tokenizer.json"};
INSTANTIATE_TEST_SUITE_P(
    Families, Golden,
    ::testing::Values(
        Source{"gpt2", kJson, "cases", true}, Source{"llama3", kJson, "cases", true},
        Source{"qwen2", kJson, "cases", true}, Source{"starcoder", kJson, "cases", true},
        Source{"falcon", kJson, "cases", true}, Source{"deepseek-v3", kJson, "cases", true},
        Source{"llama2", kJson, "json_cases", true}, Source{"t5", kJson, "json_cases", true},
        Source{"llama2", {"tokenizer.model"}, "cases", false},
        Source{"t5", {"spiece.model"}, "cases", false},
        Source{"gpt2", {"vocab.json", "merges.txt"}, "cases", true}),
    [](const ::testing::TestParamInfo<Source>& source) {
      std::string name = source.param.family + "_" + source.param.files.front();
      for (char& c : name) {
        if (c == '.' || c == '-') c = '_';
      }
      return name;
    });

TEST(GoldenModel, WikiTextHasThePublishedNumberOfTokens) {
  const std::string json = read_file(kReference + "/models/base/tokenizer.json");
  const std::string text = read_file(kReference + "/data/wikitext2/wiki.test.raw");
  if (json.empty() || text.empty()) GTEST_SKIP() << "no reference data in " << kReference;
  const Tokenizer tokenizer = Tokenizer::from_json(json, kOrigin);
  EXPECT_EQ(tokenizer.vocab_size(), 16384);
  const std::vector<int32_t> ids = tokenizer.encode(text, true);
  ASSERT_EQ(ids.size(), 332692U);
  EXPECT_EQ(ids.front(), 0);
  EXPECT_EQ(tokenizer.token_to_id("<|begin_of_text|>"), 0);
  EXPECT_EQ(tokenizer.decode(ids, /*skip_special_tokens=*/true), text);
}

}  // namespace
}  // namespace pare
