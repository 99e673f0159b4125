// The tokenizer of a GGUF file, as the files that pare's tokenizers read.
//
// "gpt2" (byte pairs) becomes a tokenizer.json whose steps "tokenizer.ggml.pre" names
// (formats/gguf_pre_tokenizers.h); "llama" (SentencePiece) becomes a tokenizer.model with the
// pieces, scores and types of the file. tokenizer_config.json says what else there is: special
// tokens, BOS and EOS, the chat template. A file with "tokenizer.huggingface.json" brings its own
// tokenizer.json. Pure function.
//
//   const auto files = gguf_tokenizer_files(file);   // {"tokenizer.json": …, …}
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "formats/gguf_file.h"

namespace pare {

/// "tokenizer.ggml.token_type".
enum class GgufTokenType : int64_t {
  kNormal = 1,
  kUnknown,
  kControl,
  kUserDefined,
  kUnused,  ///< Rows of the embedding that no text becomes.
  kByte,
};

/// Empty for a file without a tokenizer ("no_vocab"). Throws Error(kInputMalformed), naming the
/// key, for damaged lists, and kinds of tokenizers that are not read, by name.
std::map<std::string, std::string> gguf_tokenizer_files(const GgufFile& file);

}  // namespace pare
