// Tokenizers in GGUF: exported and read back, they cut every text as before.
#include <gmock/gmock.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>

#include "core/thread_pool.h"
#include "engines/engine_export.h"
#include "engines/gguf_check.h"
#include "engines/gguf_metadata.h"
#include "formats/gguf_file.h"
#include "formats/gguf_pre_tokenizers.h"
#include "formats/weight_source.h"
#include "pare/error.h"
#include "tests/support/program.h"
#include "tests/support/random_model.h"
#include "tests/support/reference.h"
#include "tests/tokenizer/random_text.h"
#include "tokenizer/open_tokenizer.h"

namespace pare::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using Files = std::map<std::string, std::string>;

struct Exported {
  Files files;
  std::vector<std::string> warnings;
};

class GgufVocabulary : public ::testing::Test {
 protected:
  // A small Llama with this tokenizer and `rows` rows in its embedding, as a GGUF file.
  Exported through_gguf(const Files& files, int64_t rows) {
    json config = small_llama_config();
    config["vocab_size"] = rows;
    config.erase("bos_token_id");
    config.erase("eos_token_id");
    auto source = std::make_shared<MemorySource>(random_model(config, kModelSeed));
    source->mutable_text_files() = files;
    LinearSurvey survey;
    survey.model = bind_model(source);
    const EngineExport made = export_gguf(survey, {});
    const Callbacks callbacks;
    ProgressMeter meter(callbacks, 0);
    ThreadPool pool(1);
    made.write(folder_.path().string(), pool, meter);
    return {open_weight_source(folder_.path().string())->text_files(), made.warnings};
  }

  GgufFile file() const { return GgufFile(folder_ / "model.gguf"); }

  static Files read(const std::string& folder, const std::vector<std::string>& names) {
    Files files;
    for (const std::string& name : names) {
      if (std::filesystem::exists(folder + "/" + name)) {
        files[name] = read_file(folder + "/" + name);
      }
    }
    return files;
  }

  // On the reference strings, and on random ones.
  static void expect_same(const Tokenizer& expected, const Tokenizer& found) {
    std::vector<std::string> texts;
    const std::string golden = reference_dir() + "/tokenizers/llama3/golden.json";
    const json cases = json::parse(read_file(golden))["cases"];
    ASSERT_EQ(cases.size(), 123U);
    for (const json& item : cases) texts.push_back(item["text"]);
    const auto seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    for (int i = 0; i < 300; ++i) texts.push_back(random_text(random, 60));
    for (const std::string& text : texts) {
      for (const bool parse_special : {false, true}) {
        const EncodeOptions options{.add_special_tokens = true, .parse_special = parse_special};
        ASSERT_EQ(found.encode(text, options), expected.encode(text, options)) << text;
      }
      const std::vector<int32_t> ids = expected.encode(text, true);
      ASSERT_EQ(found.decode(ids, true), expected.decode(ids, true)) << text;
    }
  }

  TempDir folder_;
};

struct Family {
  const char* folder;
  std::vector<std::string> files;
  const char* model;
  const char* pre;
};

TEST_F(GgufVocabulary, EveryTokenizerComesBack) {
  if (!std::filesystem::exists(reference_dir() + "/tokenizers")) GTEST_SKIP() << reference_dir();
  const std::vector<std::string> json_only = {"tokenizer.json"};
  const std::vector<Family> families = {
      {"models/base", {"tokenizer.json", "tokenizer_config.json"}, "gpt2", "llama-bpe"},
      {"models/pico", {"tokenizer.json", "tokenizer_config.json"}, "gpt2", "llama-bpe"},
      {"tokenizers/llama3", json_only, "gpt2", "llama-bpe"},
      {"tokenizers/qwen2", json_only, "gpt2", "qwen2"},
      {"tokenizers/gpt2", json_only, "gpt2", "gpt-2"},
      {"tokenizers/starcoder", json_only, "gpt2", "smollm"},
      {"tokenizers/falcon", json_only, "gpt2", "falcon"},
      {"tokenizers/deepseek-v3", json_only, "gpt2", "deepseek-v3"},
      {"tokenizers/llama2", json_only, "llama", "default"},
      {"tokenizers/llama2", {"tokenizer.model"}, "llama", "default"},
      {"tokenizers/llama2", {"tokenizer.json", "tokenizer.model"}, "llama", "default"}};
  for (const Family& family : families) {
    SCOPED_TRACE(std::string(family.folder) + " " + family.files.back());
    const Files files = read(reference_dir() + "/" + family.folder, family.files);
    ASSERT_EQ(files.size(), family.files.size());
    const Tokenizer expected = open_tokenizer(files, "original");
    const Exported made = through_gguf(files, expected.vocab_size() + 5);
    const Tokenizer found = open_tokenizer(made.files, "exported");
    expect_same(expected, found);
    EXPECT_EQ(file().text("tokenizer.ggml.model"), family.model);
    EXPECT_EQ(file().text("tokenizer.ggml.pre"), family.pre);
    EXPECT_EQ(file().find_texts("tokenizer.ggml.tokens")->size(),
              static_cast<size_t>(expected.vocab_size() + 5));
    EngineFindings findings;
    check_gguf(folder_.path().string(), {}, findings);
    EXPECT_TRUE(findings.refusals.empty()) << findings.refusals[0].subject;
    EXPECT_TRUE(findings.remarks.empty()) << findings.remarks[0].subject;
    const bool nfc = family.pre == std::string("qwen2");
    EXPECT_EQ(made.warnings.size(), nfc ? 1U : 0U);
  }
}

// A byte-pair tokenizer of a few tokens, with `change` made to its tokenizer.json.
Files byte_pairs(const std::function<void(json&)>& change) {
  json tokenizer = json::parse(R"j({"version": "1.0", "normalizer": null,
    "added_tokens": [{"id": 4, "content": "<s>", "single_word": false, "lstrip": false,
                      "rstrip": false, "normalized": false, "special": true},
                     {"id": 5, "content": "<tool>", "single_word": false, "lstrip": false,
                      "rstrip": false, "normalized": false, "special": false}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                      "use_regex": true},
    "post_processor": null, "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "c": 3}, "merges": ["a b"],
              "ignore_merges": false}})j");
  change(tokenizer);
  return {{"tokenizer.json", tokenizer.dump()}};
}

TEST_F(GgufVocabulary, RowsWithoutTokensAreFilled) {
  Files files = byte_pairs([](json&) {});
  files["tokenizer_config.json"] =
      R"({"bos_token": "<s>", "eos_token": {"content": "<tool>"}, "pad_token": "c",
          "chat_template": [{"name": "other", "template": "x"},
                            {"name": "default", "template": "{{ messages }}"}]})";
  EXPECT_THAT(through_gguf(files, 8).warnings, ::testing::IsEmpty());
  EXPECT_THAT(*file().find_texts("tokenizer.ggml.tokens"),
              ::testing::ElementsAre("a", "b", "ab", "c", "<s>", "<tool>", "[PAD6]", "[PAD7]"));
  EXPECT_THAT(*file().find_integers("tokenizer.ggml.token_type"),
              ::testing::ElementsAre(1, 1, 1, 1, 3, 4, 5, 5));
  EXPECT_THAT(*file().find_texts("tokenizer.ggml.merges"), ::testing::ElementsAre("a b"));
  EXPECT_EQ(file().find_integer("tokenizer.ggml.bos_token_id"), 4);
  EXPECT_EQ(file().find_integer("tokenizer.ggml.eos_token_id"), 5);
  EXPECT_EQ(file().find_integer("tokenizer.ggml.padding_token_id"), 3);
  EXPECT_FALSE(file().has("tokenizer.ggml.unknown_token_id"));
  EXPECT_EQ(file().find_boolean("tokenizer.ggml.add_bos_token"), false);
  EXPECT_EQ(file().text("tokenizer.chat_template"), "{{ messages }}");
  files["chat_template.jinja"] = "{{ others }}";
  through_gguf(files, 8);
  EXPECT_EQ(file().text("tokenizer.chat_template"), "{{ others }}");
}

TEST_F(GgufVocabulary, BosIsWhatTheTokenizerPutsInFront) {
  const Files files = byte_pairs([](json& tokenizer) {
    tokenizer["post_processor"] = json::parse(R"j({"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                 {"Sequence": {"id": "A", "type_id": 0}}],
      "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]}}})j");
  });
  const Exported made = through_gguf(files, 6);
  EXPECT_EQ(file().find_integer("tokenizer.ggml.bos_token_id"), 4);
  EXPECT_EQ(file().find_boolean("tokenizer.ggml.add_bos_token"), true);
  const Tokenizer found = open_tokenizer(made.files, "m");
  EXPECT_EQ(found.encode("ab", true), (std::vector<int32_t>{4, 2}));
  EXPECT_EQ(found.encode("a<tool>b", false), (std::vector<int32_t>{0, 5, 1}));
}

TEST_F(GgufVocabulary, WhatLlamaCppDoesOtherwiseIsSaid) {
  const auto warnings_of = [&](const std::function<void(json&)>& change) {
    return through_gguf(byte_pairs(change), 6).warnings;
  };
  EXPECT_THAT(warnings_of([](json& t) { t["added_tokens"][1]["lstrip"] = true; }),
              ::testing::ElementsAre(HasSubstr("1 added tokens take white space")));
  EXPECT_THAT(warnings_of([](json& t) { t["model"]["ignore_merges"] = true; }),
              ::testing::ElementsAre(HasSubstr("\"gpt-2\" takes words apart")));
  EXPECT_THAT(warnings_of([](json& t) {
                t["normalizer"] = {{"type", "NFC"}};
              }),
              ::testing::ElementsAre(HasSubstr("NFC")));
}

TEST_F(GgufVocabulary, WhatLlamaCppDoesNotHaveIsRefused) {
  const auto refused = [&](const Files& files, int64_t rows, const char* words) {
    try {
      through_gguf(files, rows);
      ADD_FAILURE() << words;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInputMalformed);
      EXPECT_THAT(error.what(), HasSubstr(words));
    }
  };
  refused(byte_pairs([](json&) {}), 5, "\"<tool>\" has id 5, the embedding has 5 rows");
  refused(byte_pairs([](json& t) {
            t["normalizer"] = {{"type", "Lowercase"}};
          }),
          6, "changes the text");
  refused(byte_pairs([](json& t) { t["pre_tokenizer"]["add_prefix_space"] = true; }), 6,
          "has no name for how its tokenizer cuts");
  refused(byte_pairs([](json& t) { t["model"]["vocab"]["[PAD6]"] = 7; }), 8, "both \"[PAD6]\"");
  const Files unigram = byte_pairs([](json& t) {
    t["model"] =
        json::parse(R"({"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]]})");
    t["added_tokens"] = json::array();
  });
  refused(unigram, 6, "unigram");
  refused({{"vocab.json", R"({"a": 0, "<|endoftext|>": 1})"}, {"merges.txt", ""}}, 6,
          "made from tokenizer.json or tokenizer.model");
}

TEST_F(GgufVocabulary, AModelWithoutATokenizer) {
  const Exported made = through_gguf({}, 6);
  EXPECT_THAT(made.warnings, ::testing::ElementsAre(HasSubstr("no tokenizer")));
  EXPECT_TRUE(made.files.empty());
  EXPECT_EQ(file().text("tokenizer.ggml.model"), "no_vocab");
}

// Byte pairs over characters: merges that SentencePiece would make and the file does not.
TEST_F(GgufVocabulary, MergesThatAreNotSentencePiecesAreSaid) {
  const auto pieces = [](const std::vector<std::string>& merges) {
    Files files = byte_pairs([&](json& t) {
      t["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}};
      t["pre_tokenizer"] = nullptr;
      t["decoder"] = nullptr;
      t["added_tokens"] = json::array();
      json vocabulary = {{"<unk>", 0}, {"a", 257},  {"b", 258},  {"ab", 259},
                         {"▁", 260},   {"▁a", 261}, {"▁ab", 262}};
      for (int byte = 0; byte < 256; ++byte) {
        std::array<char, 8> text{};
        std::snprintf(text.data(), text.size(), "<0x%02X>", static_cast<unsigned>(byte));
        vocabulary[text.data()] = byte + 1;
      }
      t["model"] = {{"type", "BPE"},        {"vocab", vocabulary}, {"merges", merges},
                    {"unk_token", "<unk>"}, {"fuse_unk", true},    {"byte_fallback", true}};
    });
    return files;
  };
  EXPECT_THAT(through_gguf(pieces({"a b", "▁ a", "▁ ab", "▁a b"}), 263).warnings,
              ::testing::IsEmpty());
  EXPECT_EQ((*file().find_numbers("tokenizer.ggml.scores"))[259], -1);
  EXPECT_EQ((*file().find_numbers("tokenizer.ggml.scores"))[262], -3);
  EXPECT_EQ((*file().find_integers("tokenizer.ggml.token_type"))[11], 6);
  EXPECT_EQ(file().find_boolean("tokenizer.ggml.add_space_prefix"), false);
  for (const auto& merges : std::vector<std::vector<std::string>>{{"a b", "▁ a", "▁ ab"},
                                                                  {"a b", "▁ ab", "▁ a", "▁a b"}}) {
    EXPECT_THAT(through_gguf(pieces(merges), 263).warnings,
                ::testing::ElementsAre(HasSubstr("not those of a SentencePiece model")));
  }
}

}  // namespace
}  // namespace pare::testing
