// Tokenizers in GGUF: exported and read back, they cut every text as before.
#include <gmock/gmock.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>

#include "core/thread_pool.h"
#include "engines/engine_export.h"
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
    const EngineExport made = export_gguf(bind_model(source), {});
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
    const bool nfc = family.pre == std::string("qwen2");
    EXPECT_EQ(made.warnings.size(), nfc ? 1U : 0U);
  }
}

}  // namespace
}  // namespace pare::testing
