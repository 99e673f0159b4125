#include "tests/tokenizer/small_tokenizer.h"

#include <fstream>
#include <iterator>

#include "pare/error.h"
#include "tokenizer/byte_alphabet.h"

namespace pare {

nlohmann::json small_tokenizer_json() {
  nlohmann::json vocabulary = {{"<s>", 0}, {"</s>", 1}};
  for (int byte = 0; byte < 256; ++byte) {
    std::string character;
    append_byte_characters(character, std::string(1, static_cast<char>(byte)));
    vocabulary[character] = 2 + byte;
  }
  vocabulary["he"] = 258;
  vocabulary["ll"] = 259;
  vocabulary["hell"] = 260;
  vocabulary["hello"] = 261;
  return {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", nlohmann::json::array({added_token(0, "<s>", {{"special", true}})})},
      {"normalizer", nullptr},
      {"pre_tokenizer",
       {{"type", "ByteLevel"},
        {"add_prefix_space", false},
        {"trim_offsets", true},
        {"use_regex", true}}},
      {"post_processor", nullptr},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", nullptr},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", false},
        {"byte_fallback", false},
        {"ignore_merges", false},
        {"vocab", vocabulary},
        {"merges", nlohmann::json::array({{"h", "e"}, {"l", "l"}, {"he", "ll"}, {"hell", "o"}})}}}};
}

nlohmann::json added_token(int id, const std::string& content, const nlohmann::json& flags) {
  nlohmann::json token = {{"id", id},        {"content", content}, {"single_word", false},
                          {"lstrip", false}, {"rstrip", false},    {"normalized", false},
                          {"special", false}};
  token.update(flags);
  return token;
}

Tokenizer load(const nlohmann::json& json) { return Tokenizer::from_json(json.dump(), kOrigin); }

std::string refusal(const std::string& text) {
  try {
    Tokenizer::from_json(text, kOrigin);
  } catch (const Error& error) {
    return error.code() == ErrorCode::kInputMalformed ? error.what() : "another code";
  }
  return "";
}

std::string read_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

}  // namespace pare
