// The parts of a tokenizer.json around its model: normalizer, pre-tokenizer, post-processor,
// decoder.
//
// Sequences inside sequences are flattened; kinds that are not supported are refused by name. For
// the .cpp files that read JSON only. Stateless.
//
//   const JsonFields fields("tokenizer.json");
//   parse_steps(fields.parse(text), fields, file);
#pragma once

#include "tokenizer/json_fields.h"
#include "tokenizer/tokenizer_file.h"

namespace pare {

/// Fills all of `file` but the model and the added tokens. Throws Error(kInputMalformed).
void parse_steps(const Json& root, const JsonFields& fields, TokenizerFile& file);

/// An entry of "added_tokens", or of "added_tokens_decoder" in a tokenizer_config.json.
AddedToken parse_added_token(const Json& json, int32_t id, const JsonFields& fields);

}  // namespace pare
