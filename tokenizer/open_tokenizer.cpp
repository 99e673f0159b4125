#include "tokenizer/open_tokenizer.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "pare/error.h"
#include "tokenizer/sentencepiece.h"
#include "tokenizer/tokenizer_config.h"
#include "tokenizer/tokenizer_file.h"
#include "tokenizer/unicode.h"

namespace pare {
namespace {

using Files = std::map<std::string, std::string>;

// Which tokens the transformers library puts around a text where tokenizer_config.json says
// nothing.
struct SentencePieceClass {
  std::string_view name;
  bool add_bos;
  bool add_eos;
  int32_t extra_ids;  // "<extra_id_0>" … behind the pieces, the last one first.
};
constexpr std::array kSentencePieceClasses{
    SentencePieceClass{"LlamaTokenizer", true, false, 0},
    SentencePieceClass{"CodeLlamaTokenizer", true, false, 0},
    SentencePieceClass{"GemmaTokenizer", true, false, 0},
    SentencePieceClass{"T5Tokenizer", false, true, 100},
    SentencePieceClass{"MT5Tokenizer", false, true, 100},
};

enum class Words { kGpt2, kQwen2 };

struct BytePairClass {
  std::string_view name;
  Words words;
  bool cls_and_sep;  // "<s>" and "</s>" around every text.
};
constexpr std::array kBytePairClasses{
    BytePairClass{"GPT2Tokenizer", Words::kGpt2, false},
    BytePairClass{"CodeGenTokenizer", Words::kGpt2, false},
    BytePairClass{"Qwen2Tokenizer", Words::kQwen2, false},
    BytePairClass{"RobertaTokenizer", Words::kGpt2, true},
    BytePairClass{"BartTokenizer", Words::kGpt2, true},
    BytePairClass{"LongformerTokenizer", Words::kGpt2, true},
    BytePairClass{"LEDTokenizer", Words::kGpt2, true},
};

// Yang et al. 2024, "Qwen2 Technical Report"; the same as cl100k's but for single digits.
constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

[[noreturn]] void fail(const std::string& folder, const std::string& what) {
  throw Error(ErrorCode::kInputMalformed, folder + ": " + what);
}

template <typename Class, size_t size>
const Class& class_of(const std::array<Class, size>& classes, std::string_view name,
                      const std::string& folder, const std::string& file) {
  const auto found = std::find_if(classes.begin(), classes.end(),
                                  [&](const Class& known) { return known.name == name; });
  if (found != classes.end()) return *found;
  std::string known;
  for (const Class& entry : classes) known += (known.empty() ? "" : ", ") + std::string(entry.name);
  fail(folder, "tokenizer_class " + quoted_text(name) + " of tokenizer_config.json with " + file +
                   " is not supported, expected " + known + "; or give a tokenizer.json");
}

Tokenizer open_sentencepiece(const Files& files, const std::string& name,
                             const std::string& folder) {
  const TokenizerConfig config = read_tokenizer_config(files, folder);
  // Where no class is given the name of the file tells: each of the two families has its own.
  const bool from_t5 = name == "spiece.model";
  std::string class_name = config.tokenizer_class;
  const bool described = config.add_bos_token && config.add_eos_token;
  if (class_name.empty() || class_name == "PreTrainedTokenizer") {
    class_name = from_t5 ? "T5Tokenizer" : "LlamaTokenizer";
  }
  const SentencePieceClass explicit_class{class_name, false, false, 0};
  const SentencePieceClass& known =
      described && std::none_of(kSentencePieceClasses.begin(), kSentencePieceClasses.end(),
                                [&](const auto& entry) { return entry.name == class_name; })
          ? explicit_class
          : class_of(kSentencePieceClasses, class_name, folder, name);
  SentencePieceSettings settings;
  settings.add_bos = config.add_bos_token.value_or(known.add_bos);
  settings.add_eos = config.add_eos_token.value_or(known.add_eos);
  settings.bos_token = config.special("bos_token");
  settings.eos_token = config.special("eos_token");
  settings.added_tokens = config.added_tokens;
  if (config.added_tokens.empty()) settings.extra_ids = config.extra_ids.value_or(known.extra_ids);
  return Tokenizer::from_sentencepiece(files.at(name), settings, folder + "/" + name);
}

// The special tokens that the vocabulary holds, and the added ones.
std::vector<AddedToken> special_tokens(const TokenizerConfig& config, const BpeModel& model) {
  std::vector<AddedToken> tokens = config.added_tokens;
  std::vector<std::string> contents = config.special_contents;
  if (contents.empty()) contents.emplace_back("<|endoftext|>");  // GPT-2's, which has no other.
  for (const auto& [content, id] : model.vocabulary) {
    const bool listed = std::any_of(
        tokens.begin(), tokens.end(),
        [&, &name = content](const AddedToken& token) { return token.content == name; });
    if (listed || std::find(contents.begin(), contents.end(), content) == contents.end()) continue;
    tokens.push_back({.id = id, .content = content, .normalized = false, .special = true});
  }
  return tokens;
}

Tokenizer open_byte_pairs(const Files& files, const std::string& folder) {
  const TokenizerConfig config = read_tokenizer_config(files, folder);
  const std::string name =
      config.tokenizer_class.empty() ? "GPT2Tokenizer" : config.tokenizer_class;
  const BytePairClass& known = class_of(kBytePairClasses, name, folder, "vocab.json");
  TokenizerFile file;
  BpeModel model = parse_vocab_and_merges(files.at("vocab.json"), folder + "/vocab.json",
                                          files.at("merges.txt"), folder + "/merges.txt");
  file.added_tokens = special_tokens(config, model);
  const auto id_of = [&](const char* key, const char* otherwise) {
    const std::string content = config.special(key).value_or(otherwise);
    for (const AddedToken& token : file.added_tokens) {
      if (token.content == content) return token.id;
    }
    for (const auto& [known_content, id] : model.vocabulary) {
      if (known_content == content) return id;
    }
    fail(folder, std::string(key) + " " + quoted_text(content) + " is not in vocab.json");
  };
  PostProcessorTemplate around;
  if (known.cls_and_sep) {
    around = {{id_of("cls_token", "<s>")}, {id_of("sep_token", "</s>")}};
  } else {
    if (config.add_bos_token.value_or(false)) around.before = {id_of("bos_token", "<|endoftext|>")};
    if (config.add_eos_token.value_or(false)) around.after = {id_of("eos_token", "<|endoftext|>")};
  }
  file.post_processor.push_back(std::move(around));
  if (known.words == Words::kQwen2) {
    file.normalizer.emplace_back(NormalizeUnicode{UnicodeForm::kNfc});
    file.pre_tokenizer.emplace_back(
        SplitOnPattern{{std::string(kQwen2Pattern), true}, SplitBehavior::kIsolated});
  }
  file.pre_tokenizer.emplace_back(
      SplitByteLevel{config.add_prefix_space, known.words == Words::kGpt2});
  file.decoder.emplace_back(DecodeByteLevel{});
  file.model = std::move(model);
  return Tokenizer::from_file(std::move(file), folder + "/vocab.json");
}

}  // namespace

std::string tokenizer_file_name(const std::map<std::string, std::string>& files) {
  for (const char* name : {"tokenizer.json", "tokenizer.model", "spiece.model"}) {
    if (files.contains(name)) return name;
  }
  return files.contains("vocab.json") && files.contains("merges.txt") ? "vocab.json" : "";
}

Tokenizer open_tokenizer(const std::map<std::string, std::string>& files,
                         const std::string& folder) {
  const std::string name = tokenizer_file_name(files);
  if (name == "tokenizer.json") return Tokenizer::from_json(files.at(name), folder + "/" + name);
  if (name == "vocab.json") return open_byte_pairs(files, folder);
  if (!name.empty()) return open_sentencepiece(files, name, folder);
  throw Error(ErrorCode::kInputMissing,
              folder +
                  ": there is no tokenizer: looked for tokenizer.json, tokenizer.model, "
                  "spiece.model, and vocab.json with merges.txt; give token ids instead of "
                  "text");
}

}  // namespace pare
