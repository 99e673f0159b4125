// Reference values: ids that the reference implementation computed for hard strings.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/tokenizer/small_tokenizer.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/tokenizer_file.h"

namespace pare {
namespace {

constexpr const char* kReference = PARE_REFERENCE_DIR;

class Golden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const std::string folder = std::string(kReference) + "/tokenizers/" + GetParam();
    text_ = read_file(folder + "/tokenizer.json");
    golden_ = read_file(folder + "/golden.json");
    if (text_.empty() || golden_.empty()) GTEST_SKIP() << "no reference data in " << folder;
  }
  std::string text_;
  std::string golden_;
};

TEST_P(Golden, EveryStringGivesTheIds) {
  const Tokenizer tokenizer = Tokenizer::from_json(text_, GetParam());
  const auto golden = nlohmann::json::parse(golden_);
  const bool add_special_tokens = golden["add_special_tokens"];
  ASSERT_EQ(golden["cases"].size(), 123U);
  for (const auto& item : golden["cases"]) {
    const std::string text = item["text"];
    const std::vector<int32_t> expected = item["ids"];
    EXPECT_EQ(tokenizer.encode(text, add_special_tokens), expected) << text;
  }
}

TEST_P(Golden, IdsDecodeToTheNormalizedText) {
  const Tokenizer tokenizer = Tokenizer::from_json(text_, GetParam());
  const Normalizer normalizer(parse_tokenizer_json(text_, GetParam()).normalizer, GetParam());
  RegexScratch scratch;
  const auto golden = nlohmann::json::parse(golden_);
  for (const auto& item : golden["cases"]) {
    const std::string text = item["text"];
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, false)), normalizer.apply(text, scratch));
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Golden,
                         testing::Values("gpt2", "llama3", "qwen2", "starcoder", "falcon",
                                         "deepseek-v3"),
                         [](const testing::TestParamInfo<std::string>& family) {
                           return family.param == "deepseek-v3" ? "deepseek_v3" : family.param;
                         });

TEST(GoldenModel, WikiTextHasThePublishedNumberOfTokens) {
  const std::string json = read_file(std::string(kReference) + "/models/base/tokenizer.json");
  const std::string text = read_file(std::string(kReference) + "/data/wikitext2/wiki.test.raw");
  if (json.empty() || text.empty()) GTEST_SKIP() << "no reference data in " << kReference;
  const Tokenizer tokenizer = Tokenizer::from_json(json, kOrigin);
  EXPECT_EQ(tokenizer.vocab_size(), 16384);
  const std::vector<int32_t> ids = tokenizer.encode(text, true);
  ASSERT_EQ(ids.size(), 332692U);
  EXPECT_EQ(ids.front(), 0);
  EXPECT_EQ(tokenizer.token_to_id("<|begin_of_text|>"), 0);
  EXPECT_EQ(tokenizer.decode(ids, /*skip_special_tokens=*/true), text);
}

// SentencePiece models arrive as BPE with byte_fallback or as Unigram: no ids rather than wrong
// ones.
TEST(GoldenModel, SentencePieceFamiliesAreRefusedByName) {
  for (const auto& [family, word] :
       {std::pair("llama2", "byte_fallback"), std::pair("t5", "\"Unigram\"")}) {
    const std::string json =
        read_file(std::string(kReference) + "/tokenizers/" + family + "/tokenizer.json");
    if (json.empty()) GTEST_SKIP() << "no reference data in " << kReference;
    EXPECT_NE(refusal(json).find(word), std::string::npos) << refusal(json);
  }
}

}  // namespace
}  // namespace pare
