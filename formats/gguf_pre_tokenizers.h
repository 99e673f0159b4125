// How the byte-pair tokenizers that llama.cpp knows by name cut a text into words.
//
// "tokenizer.ggml.pre" of a GGUF file names one of a fixed list; what it means is written down in
// the engine. Here it is as the steps of a tokenizer.json, so that a name becomes steps when a file
// is read, and the steps of a tokenizer.json become a name when one is written.
//
// Source: llama-vocab.cpp of llama.cpp (which name has which patterns), the tokenizer.json of the
// models that the names stand for. Thread-safe.
//
//   const GgufPreTokenizer* found = find_gguf_pre_tokenizer("llama-bpe");
//   json["pre_tokenizer"] = Json::parse(found->steps);
#pragma once

#include <string>
#include <string_view>

namespace pare {

struct GgufPreTokenizer {
  const char* name;   ///< tokenizer.ggml.pre
  std::string steps;  ///< "pre_tokenizer" of a tokenizer.json, JSON.
  /// A word that is itself in the vocabulary is not taken apart.
  bool ignore_merges = false;
  /// The models' own tokenizer.json composes characters first (NFC), llama.cpp does not.
  bool nfc = false;
};

/// By name, or null.
const GgufPreTokenizer* find_gguf_pre_tokenizer(std::string_view name);

/// By what it does: `steps` is the "pre_tokenizer" of a tokenizer.json. Where several have the same
/// steps, one that agrees in the rest is preferred. Null where none has these steps.
const GgufPreTokenizer* match_gguf_pre_tokenizer(const std::string& steps, bool ignore_merges,
                                                 bool nfc);

}  // namespace pare
