// The files that stand for the tokenizer of a GGUF file.
#include "formats/gguf_tokenizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "formats/gguf_pre_tokenizers.h"
#include "tests/formats/gguf_files.h"
#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

using nlohmann::json;

class GgufTokenizerTest : public ::testing::Test {
 protected:
  std::map<std::string, std::string> files_of(const GgufBytes& file) const {
    write_file(path_, file.bytes());
    return gguf_tokenizer_files(GgufFile(path_));
  }
  void expect_refused(const GgufBytes& file, const std::vector<std::string>& words) const {
    expect_error([&] { files_of(file); }, ErrorCode::kInputMalformed, words);
  }

  TempFolder folder_;
  std::string path_ = folder_ / "m.gguf";
};

GgufBytes byte_pairs() {
  GgufBytes file;
  file.text("tokenizer.ggml.model", "gpt2");
  file.text("tokenizer.ggml.pre", "llama-bpe");
  file.texts("tokenizer.ggml.tokens", {"<s>", "</s>", "a", "b", "ab", "<tool>", "[PAD6]"});
  file.integers("tokenizer.ggml.token_type", {3, 3, 1, 1, 1, 4, 5});
  file.texts("tokenizer.ggml.merges", {"a b"});
  file.number("tokenizer.ggml.bos_token_id", 0);
  file.number("tokenizer.ggml.eos_token_id", 1);
  return file;
}

TEST_F(GgufTokenizerTest, BytePairs) {
  GgufBytes file = byte_pairs();
  file.text("tokenizer.chat_template", "{{ messages }}");
  const auto files = files_of(file);
  const json tokenizer = json::parse(files.at("tokenizer.json"));
  EXPECT_EQ(tokenizer["model"]["vocab"],
            (json{{"<s>", 0}, {"</s>", 1}, {"a", 2}, {"b", 3}, {"ab", 4}, {"<tool>", 5}}));
  EXPECT_EQ(tokenizer["model"]["merges"], json::parse(R"([["a", "b"]])"));
  EXPECT_EQ(tokenizer["model"]["ignore_merges"], true);
  ASSERT_EQ(tokenizer["added_tokens"].size(), 3U);
  EXPECT_EQ(tokenizer["added_tokens"][0]["special"], true);
  EXPECT_EQ(tokenizer["added_tokens"][2]["content"], "<tool>");
  EXPECT_EQ(tokenizer["added_tokens"][2]["special"], false);
  // Llama 3's begin every text with BOS unless the file says otherwise.
  EXPECT_EQ(tokenizer["post_processor"]["single"][0]["SpecialToken"]["id"], "<s>");
  const json config = json::parse(files.at("tokenizer_config.json"));
  EXPECT_EQ(config["bos_token"], "<s>");
  EXPECT_EQ(config["eos_token"], "</s>");
  EXPECT_EQ(config["add_bos_token"], true);
  EXPECT_EQ(config["chat_template"], "{{ messages }}");
  file.truth("tokenizer.ggml.add_bos_token", false);
  file.truth("tokenizer.ggml.add_eos_token", true);
  const json other = json::parse(files_of(file).at("tokenizer.json"));
  EXPECT_EQ(other["post_processor"]["single"][1]["SpecialToken"]["id"], "</s>");
}

TEST_F(GgufTokenizerTest, SentencePieces) {
  GgufBytes file;
  file.text("tokenizer.ggml.model", "llama");
  file.texts("tokenizer.ggml.tokens", {"<unk>", "<s>", "</s>", "a", "[PAD4]"});
  file.integers("tokenizer.ggml.token_type", {2, 3, 3, 1, 5});
  file.reals("tokenizer.ggml.scores", {0, 0, 0, -1.5F, -1000});
  file.number("tokenizer.ggml.bos_token_id", 1);
  file.number("tokenizer.ggml.eos_token_id", 2);
  const auto files = files_of(file);
  // pieces { 1 text, 2 score, 3 type }: the last but one is "a".
  const std::string& proto = files.at("tokenizer.model");
  const std::string piece =
      std::string("\x0a\x01") + "a" + "\x15" + f32_bytes({-1.5F}) + "\x18\x01";
  EXPECT_NE(proto.find(std::string("\x0a") + static_cast<char>(piece.size()) + piece),
            std::string::npos);
  EXPECT_EQ(proto.find("PAD4"), std::string::npos);
  EXPECT_EQ(json::parse(files.at("tokenizer_config.json"))["tokenizer_class"], "LlamaTokenizer");
}

TEST_F(GgufTokenizerTest, OwnFileComesFirst) {
  GgufBytes file = byte_pairs();
  file.text("tokenizer.huggingface.json", "{\"mine\": 1}");
  EXPECT_EQ(files_of(file).at("tokenizer.json"), "{\"mine\": 1}");
  GgufBytes none;
  EXPECT_TRUE(files_of(none).empty());
  none.text("tokenizer.ggml.model", "no_vocab");
  EXPECT_TRUE(files_of(none).empty());
}

TEST_F(GgufTokenizerTest, DamageIsNamed) {
  const auto with = [](const std::function<void(GgufBytes&)>& change) {
    GgufBytes file;
    file.text("tokenizer.ggml.model", "gpt2");
    change(file);
    return file;
  };
  expect_refused(with([](GgufBytes&) {}), {"tokenizer.ggml.tokens", "missing"});
  expect_refused(with([](GgufBytes& f) { f.texts("tokenizer.ggml.tokens", {"a"}); }),
                 {"tokenizer.ggml.merges", "missing"});
  expect_refused(with([](GgufBytes& f) {
                   f.texts("tokenizer.ggml.tokens", {"a", "b"});
                   f.integers("tokenizer.ggml.token_type", {1});
                 }),
                 {"token_type", "1 elements", "2"});
  for (const int32_t type : {-1, 7}) {
    expect_refused(with([=](GgufBytes& f) {
                     f.texts("tokenizer.ggml.tokens", {"a"});
                     f.integers("tokenizer.ggml.token_type", {type});
                   }),
                   {"token_type", std::to_string(type)});
  }
  expect_refused(with([](GgufBytes& f) {
                   f.texts("tokenizer.ggml.tokens", {"a", "a"});
                   f.texts("tokenizer.ggml.merges", {});
                 }),
                 {"token 1 twice"});
  expect_refused(with([](GgufBytes& f) {
                   f.texts("tokenizer.ggml.tokens", {"a"});
                   f.texts("tokenizer.ggml.merges", {"ab"});
                 }),
                 {"merges", "no pair"});
  expect_refused(with([](GgufBytes& f) {
                   f.texts("tokenizer.ggml.tokens", {"\xff"});
                   f.texts("tokenizer.ggml.merges", {});
                 }),
                 {"UTF-8"});
  expect_refused(with([](GgufBytes& f) {
                   f.texts("tokenizer.ggml.tokens", {"a"});
                   f.texts("tokenizer.ggml.merges", {});
                   f.number("tokenizer.ggml.bos_token_id", 1);
                 }),
                 {"bos_token_id", "1 tokens"});
  expect_refused(with([](GgufBytes& f) {
                   f.texts("tokenizer.ggml.tokens", {"a"});
                   f.texts("tokenizer.ggml.merges", {});
                   f.truth("tokenizer.ggml.add_bos_token", true);
                 }),
                 {"bos_token_id"});
  expect_refused(with([](GgufBytes& f) {
                   f.texts("tokenizer.ggml.tokens", {"a"});
                   f.text("tokenizer.ggml.pre", "mine");
                 }),
                 {"tokenizer.ggml.pre", "\"mine\""});
  GgufBytes bert;
  bert.text("tokenizer.ggml.model", "bert");
  expect_refused(bert, {"\"bert\"", "gpt2 and llama", "give the folder"});
  GgufBytes pieces;
  pieces.text("tokenizer.ggml.model", "llama");
  pieces.texts("tokenizer.ggml.tokens", {"<unk>"});
  expect_refused(pieces, {"tokenizer.ggml.scores", "missing"});
  pieces.reals("tokenizer.ggml.scores", {-INFINITY});
  expect_refused(pieces, {"tokenizer.ggml.scores", "token 0"});
}

// What a name means is found again under that name, or one with the same meaning.
TEST(GgufPreTokenizers, NamesAndStepsAgree) {
  for (const char* name :
       {"llama-bpe", "smaug-bpe", "qwen2", "stablelm2", "gpt-2", "smollm", "falcon", "deepseek-v3",
        "deepseek-coder", "tekken", "gpt-4o", "default", "qwen35"}) {
    const GgufPreTokenizer* words = find_gguf_pre_tokenizer(name);
    ASSERT_NE(words, nullptr) << name;
    const GgufPreTokenizer* found =
        match_gguf_pre_tokenizer(words->steps, words->ignore_merges, words->nfc);
    ASSERT_NE(found, nullptr) << name;
    EXPECT_EQ(found->name, std::string(name));
  }
  EXPECT_EQ(find_gguf_pre_tokenizer("no-such"), nullptr);
  EXPECT_EQ(match_gguf_pre_tokenizer(R"({"type": "Whitespace"})", false, false), nullptr);
  EXPECT_EQ(match_gguf_pre_tokenizer("null", false, false), nullptr);
  EXPECT_EQ(match_gguf_pre_tokenizer("no json", false, false), nullptr);
  // Spelled in another way, with keys that decide nothing.
  const char* spelled = R"j({"type": "Sequence", "pretokenizers": [{"type": "Sequence",
    "pretokenizers": [{"type": "Split", "behavior": "Isolated", "invert": false, "pattern":
    {"Regex": "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}}]},
    {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})j";
  const GgufPreTokenizer* found = match_gguf_pre_tokenizer(spelled, false, true);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->name, std::string("qwen2"));
  // A prefix space is another tokenizer.
  EXPECT_EQ(
      match_gguf_pre_tokenizer(
          R"({"type": "ByteLevel", "add_prefix_space": true, "use_regex": true})", false, false),
      nullptr);
}

}  // namespace
}  // namespace pare::test
