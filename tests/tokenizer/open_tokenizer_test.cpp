// Which of a model's files make its tokenizer, and what the smaller ones change.
#include "tokenizer/open_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pare/error.h"
#include "tests/tokenizer/small_charsmap.h"
#include "tests/tokenizer/small_tokenizer.h"

namespace pare {
namespace {

using Files = std::map<std::string, std::string>;
using Ids = std::vector<int32_t>;
using testing::AllOf;
using testing::HasSubstr;

std::string refusal_of(const Files& files, ErrorCode code = ErrorCode::kInputMalformed) {
  try {
    open_tokenizer(files, "folder");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  return "";
}

std::string model_file() {
  return make_sentencepiece(
      {.kind = 1,
       .pieces = {{"<unk>", 0, 2}, {"<s>", 0, 3}, {"</s>", 0, 3}, {"▁", -1}, {"a", -2}}});
}

// The small tokenizer's model as GPT-2 kept it.
Files byte_pair_files() {
  const auto json = small_tokenizer_json();
  return {{"vocab.json", json["model"]["vocab"].dump()},
          {"merges.txt", "#version: 0.2\nh e\nl l\r\nhe ll\nhell o\n\n"}};
}

Ids encode(const Files& files, const std::string& text = "a") {
  return open_tokenizer(files, "folder").encode(text, true);
}

TEST(OpenTokenizer, OrderOfFiles) {
  Files files = byte_pair_files();
  EXPECT_EQ(tokenizer_file_name(files), "vocab.json");
  files["spiece.model"] = model_file();
  EXPECT_EQ(tokenizer_file_name(files), "spiece.model");
  EXPECT_EQ(open_tokenizer(files, "folder").vocab_size(), 105);
  files["tokenizer.model"] = model_file();
  EXPECT_EQ(tokenizer_file_name(files), "tokenizer.model");
  EXPECT_EQ(open_tokenizer(files, "folder").vocab_size(), 5);
  files["tokenizer.json"] = small_tokenizer_json().dump();
  EXPECT_EQ(tokenizer_file_name(files), "tokenizer.json");
  EXPECT_EQ(open_tokenizer(files, "folder").vocab_size(), 262);
}

TEST(OpenTokenizer, WhatWasLookedForIsNamed) {
  for (const Files& files : {Files{}, Files{{"vocab.json", "{}"}}, Files{{"merges.txt", ""}}}) {
    EXPECT_EQ(tokenizer_file_name(files), "");
    EXPECT_THAT(
        refusal_of(files, ErrorCode::kInputMissing),
        AllOf(HasSubstr("folder: "), HasSubstr("tokenizer.json"), HasSubstr("tokenizer.model"),
              HasSubstr("spiece.model"), HasSubstr("vocab.json with merges.txt")));
  }
}

TEST(OpenTokenizer, SentencePieceClasses) {
  EXPECT_EQ(encode({{"tokenizer.model", model_file()}}), Ids({1, 3, 4}));
  EXPECT_EQ(encode({{"spiece.model", model_file()}}), Ids({3, 4, 2}));
  Files files = {{"tokenizer.model", model_file()}};
  const auto with = [&](const char* config) {
    files["tokenizer_config.json"] = config;
    return encode(files);
  };
  EXPECT_EQ(with(R"({"tokenizer_class": "T5TokenizerFast"})"), Ids({3, 4, 2}));
  EXPECT_EQ(with(R"({"tokenizer_class": "LlamaTokenizer", "add_bos_token": false,
                     "add_eos_token": true})"),
            Ids({3, 4, 2}));
  EXPECT_EQ(with(R"({"bos_token": {"content": "</s>"}})"), Ids({2, 3, 4}));
  EXPECT_EQ(with(R"({"tokenizer_class": "AuthorsOwn", "add_bos_token": true,
                     "add_eos_token": false})"),
            Ids({1, 3, 4}));
  EXPECT_THAT(refusal_of({{"tokenizer.model", model_file()},
                          {"tokenizer_config.json", R"({"tokenizer_class": "MBartTokenizer"})"}}),
              AllOf(HasSubstr("\"MBartTokenizer\""), HasSubstr("LlamaTokenizer, ")));
}

TEST(OpenTokenizer, AddedTokensOfSentencePiece) {
  Files files = {{"tokenizer.model", model_file()}};
  files["tokenizer_config.json"] = R"({"added_tokens_decoder": {
      "5": {"content": "[INST]", "special": false}, "1": {"content": "<s>", "special": true}}})";
  files["added_tokens.json"] = R"({"[PAD]": 6, "[INST]": 5})";
  files["special_tokens_map.json"] = R"({"pad_token": "[PAD]"})";
  const Tokenizer tokenizer = open_tokenizer(files, "folder");
  EXPECT_EQ(tokenizer.encode("a[INST]", false), Ids({3, 4, 5}));
  EXPECT_EQ(tokenizer.encode("[PAD]", false), Ids({3, 0}));  // Special: text unless asked for.
  EXPECT_EQ(tokenizer.encode("[PAD]", {.add_special_tokens = false, .parse_special = true}),
            Ids({6}));
  EXPECT_EQ(tokenizer.vocab_size(), 7);
  files["added_tokens.json"] = R"({"[OTHER]": 4})";
  EXPECT_THAT(refusal_of(files), HasSubstr("id 4 belongs to \"a\" too"));
  files["added_tokens.json"] = R"({"[OTHER]": -4})";
  EXPECT_THAT(refusal_of(files), HasSubstr("folder/added_tokens.json"));
  files.erase("added_tokens.json");
  files["tokenizer_config.json"] = R"({"added_tokens_decoder": {"x": {"content": "y"}}})";
  EXPECT_THAT(refusal_of(files), HasSubstr("\"added_tokens_decoder\""));
}

TEST(OpenTokenizer, VocabularyAndMerges) {
  Files files = byte_pair_files();
  EXPECT_EQ(encode(files, "hello hell"), Ids({261, 2 + ' ', 260}));
  EXPECT_EQ(open_tokenizer(files, "folder").decode({261, 2 + ' ', 260}), "hello hell");
  files["tokenizer_config.json"] = R"({"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": true,
      "bos_token": "</s>", "add_bos_token": true})";
  EXPECT_EQ(encode(files, "he"), Ids({1, 2 + ' ', 258}));
  files["tokenizer_config.json"] = R"({"tokenizer_class": "BartTokenizer"})";
  EXPECT_EQ(encode(files, "he"), Ids({0, 258, 1}));
  files["tokenizer_config.json"] = R"({"tokenizer_class": "Qwen2Tokenizer"})";
  EXPECT_EQ(encode(files, "e\u0301"), encode(files, "\u00E9"));
  EXPECT_EQ(encode(files, "11"), Ids({2 + '1', 2 + '1'}));
  files["tokenizer_config.json"] = R"({"tokenizer_class": "FSMTTokenizer"})";
  EXPECT_THAT(refusal_of(files), AllOf(HasSubstr("FSMTTokenizer"), HasSubstr("GPT2Tokenizer")));
  files["tokenizer_config.json"] = R"({"add_bos_token": true})";
  EXPECT_THAT(refusal_of(files), HasSubstr("bos_token \"<|endoftext|>\" is not in vocab.json"));
}

TEST(OpenTokenizer, DamagedFilesAreNamed) {
  Files files = byte_pair_files();
  files["merges.txt"] = "h e\nl\n";
  EXPECT_THAT(refusal_of(files), AllOf(HasSubstr("folder/merges.txt"), HasSubstr("merge 1")));
  files["merges.txt"] = "h \xFF\n";
  EXPECT_THAT(refusal_of(files), HasSubstr("folder/merges.txt: is not UTF-8"));
  files = byte_pair_files();
  files["vocab.json"] = "[]";
  EXPECT_THAT(refusal_of(files), HasSubstr("folder/vocab.json"));
  files = byte_pair_files();
  for (const char* bad : {"", "[]", "{\"tokenizer_class\": 1}", "{\"add_bos_token\": \"yes\"}",
                          "{\"bos_token\": 1}", "{\"bos_token\": {}}",
                          "{\"additional_special_tokens\": 3}", "{\"added_tokens_decoder\": []}"}) {
    files["tokenizer_config.json"] = bad;
    EXPECT_THAT(refusal_of(files), HasSubstr("folder/tokenizer_config.json")) << bad;
  }
}

}  // namespace
}  // namespace pare
