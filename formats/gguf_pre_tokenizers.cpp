#include "formats/gguf_pre_tokenizers.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

namespace pare {
namespace {

using Json = nlohmann::ordered_json;

// GPT-2's words (Radford et al., 2019).
constexpr const char* kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// cl100k's words, with numbers of up to three digits (Llama 3) and single digits (Qwen 2).
constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Marks belong to the letters before them.
constexpr const char* kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N})"
    R"(| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// o200k's words, in which capitals begin one, without and with English contractions.
constexpr const char* kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// DeepSeek-V3's, behind numbers and East Asian scripts.
constexpr const char* kDeepseekNumbers = R"(\p{N}{1,3})";
constexpr const char* kDeepseekScripts = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+";
constexpr const char* kDeepseekWords =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
    R"(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Json split(const char* pattern) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

Json byte_level(bool words) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", words}};
}

Json digits(bool individual) { return {{"type", "Digits"}, {"individual_digits", individual}}; }

std::string sequence(std::initializer_list<Json> steps) {
  Json list = Json::array();
  for (const Json& step : steps) list.push_back(step);
  return Json{{"type", "Sequence"}, {"pretokenizers", list}}.dump();
}

std::string words(const char* pattern) { return sequence({split(pattern), byte_level(false)}); }

std::vector<GgufPreTokenizer> make_table() {
  const std::string gpt2 = byte_level(true).dump();
  const std::string single_digits = sequence({digits(true), byte_level(true)});
  const std::string deepseek3 = sequence(
      {split(kDeepseekNumbers), split(kDeepseekScripts), split(kDeepseekWords), byte_level(false)});
  const std::string falcon = sequence({Json{{"type", "Punctuation"}, {"behavior", "Contiguous"}},
                                       byte_level(true), digits(false), split("[0-9][0-9][0-9]")});
  const std::string plain =
      sequence({split(R"([\p{P}\$\+<=>\^~\|]+)"), split(kGpt2), split(R"(\p{N}+)"),
                split("[0-9][0-9][0-9]"), byte_level(false)});
  const std::string coder = sequence(
      {split(R"([\r\n])"), split(R"(\s?\p{L}+)"), split(R"(\s?\p{P}+)"),
       split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"), digits(true), byte_level(false)});
  // Of names with the same steps the first is the one that is written.
  return {
      {"llama-bpe", words(kLlama3), true},
      {"smaug-bpe", words(kLlama3)},
      {"llama3", words(kLlama3), true},
      {"llama-v3", words(kLlama3), true},
      {"falcon3", words(kLlama3), true},
      {"pixtral", words(kLlama3), true},
      {"dbrx", words(kLlama3)},
      {"chatglm-bpe", words(kLlama3)},
      {"glm4", words(kLlama3)},
      {"qwen2", words(kQwen2), false, true},
      {"stablelm2", words(kQwen2)},
      {"deepseek-r1-qwen", words(kQwen2), false, true},
      {"megrez", words(kQwen2), false, true},
      {"hunyuan", words(kQwen2)},
      {"qwen35", words(kQwen35), false, true},
      {"gpt-2", gpt2},
      {"mpt", gpt2},
      {"olmo", gpt2},
      {"phi-2", gpt2},
      {"jais", gpt2},
      {"trillion", gpt2},
      {"smollm", single_digits},
      {"starcoder", single_digits},
      {"refact", single_digits},
      {"command-r", single_digits},
      {"codeshell", single_digits},
      {"exaone", single_digits},
      {"minerva-7b", single_digits},
      {"falcon", falcon},
      {"deepseek-v3", deepseek3},
      {"hunyuan-dense", deepseek3},
      {"deepseek-coder", coder},
      {"tekken", words(kTekken), true},
      {"gpt-4o", words(kGpt4o)},
      {"llama4", words(kGpt4o)},
      {"default", plain},
  };
}

const std::vector<GgufPreTokenizer>& table() {
  static const std::vector<GgufPreTokenizer> made = make_table();
  return made;
}

std::string text_of(const Json& step, const char* key) {
  const auto found = step.find(key);
  return found == step.end() ? "-" : found->dump();
}

// Spellings of one pattern.
std::string canonical_pattern(std::string pattern) {
  constexpr std::string_view kSpelled = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
  constexpr std::string_view kIgnoring = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
  for (size_t at = pattern.find(kSpelled); at != std::string::npos; at = pattern.find(kSpelled)) {
    pattern.replace(at, kSpelled.size(), kIgnoring);
  }
  // A quotation mark needs no backslash in front.
  for (size_t at = pattern.find("\\\""); at != std::string::npos; at = pattern.find("\\\"")) {
    pattern.erase(at, 1);
  }
  return pattern;
}

// The steps one after the other, each as what decides what it does. What is not known stays as it
// is, and equals nothing.
void add_canonical(const Json& step, std::string& result) {
  if (!step.is_object()) {
    result += step.dump() + "\n";
    return;
  }
  const std::string type = step.value("type", Json("")).dump();
  if (type == "\"Sequence\"") {
    const auto inner = step.find("pretokenizers");
    if (inner == step.end() || !inner->is_array()) return;
    for (const Json& one : *inner) add_canonical(one, result);
  } else if (type == "\"Split\"") {
    const auto pattern = step.find("pattern");
    std::string text = "-";
    if (pattern != step.end() && pattern->is_object() && pattern->contains("Regex") &&
        pattern->at("Regex").is_string()) {
      text = canonical_pattern(pattern->at("Regex").get<std::string>());
    } else if (pattern != step.end()) {
      text = pattern->dump();
    }
    result += "split " + text + " " + text_of(step, "behavior") + text_of(step, "invert") + "\n";
  } else if (type == "\"ByteLevel\"") {
    // use_regex is true where it is not there.
    const bool splits = text_of(step, "use_regex") != "false";
    result += "bytes " + text_of(step, "add_prefix_space") + (splits ? " words\n" : "\n");
  } else if (type == "\"Digits\"") {
    result += "digits " + text_of(step, "individual_digits") + "\n";
  } else if (type == "\"Punctuation\"") {
    result += "punctuation " + text_of(step, "behavior") + "\n";
  } else {
    result += step.dump() + "\n";
  }
}

std::string canonical(const std::string& steps) {
  std::string result;
  add_canonical(Json::parse(steps, nullptr, false), result);
  return result;
}

}  // namespace

const GgufPreTokenizer* find_gguf_pre_tokenizer(std::string_view name) {
  const auto found = std::find_if(table().begin(), table().end(),
                                  [&](const GgufPreTokenizer& one) { return one.name == name; });
  return found == table().end() ? nullptr : &*found;
}

const GgufPreTokenizer* match_gguf_pre_tokenizer(const std::string& steps, bool ignore_merges,
                                                 bool nfc) {
  const std::string wanted = canonical(steps);
  const GgufPreTokenizer* best = nullptr;
  int best_agreement = -1;
  for (const GgufPreTokenizer& one : table()) {
    const int agreement = (one.ignore_merges == ignore_merges ? 2 : 0) + (one.nfc == nfc ? 1 : 0);
    if (agreement <= best_agreement || canonical(one.steps) != wanted) continue;
    best = &one;
    best_agreement = agreement;
  }
  return best;
}

}  // namespace pare
