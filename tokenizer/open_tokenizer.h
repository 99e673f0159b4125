// The tokenizer of a model, from whatever files it came with.
//
// In this order: tokenizer.json; a SentencePiece model, tokenizer.model or spiece.model; vocab.json
// with merges.txt. What those two leave open (special tokens, BOS and EOS) tokenizer_config.json,
// special_tokens_map.json and added_tokens.json say, or else the defaults of the tokenizer's class
// in the transformers library. Stateless.
//
//   Tokenizer tokenizer = open_tokenizer(source.text_files(), source.path());
#pragma once

#include <map>
#include <string>

#include "tokenizer/tokenizer.h"

namespace pare {

/// `files` holds the model's small files by name, `folder` is for messages. Throws
/// Error(kInputMissing), naming what was looked for, when no tokenizer is there, and
/// Error(kInputMalformed) when it is damaged or of a kind that is not supported.
Tokenizer open_tokenizer(const std::map<std::string, std::string>& files,
                         const std::string& folder);

/// The name of the file that open_tokenizer would read, or "" where there is none.
std::string tokenizer_file_name(const std::map<std::string, std::string>& files);

}  // namespace pare
