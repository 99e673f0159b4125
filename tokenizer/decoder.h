// Tokens to text: the decoder steps of tokenizer.json in order.
//
// Text may end up as bytes that are no UTF-8, where tokens stand for parts of characters. Immutable
// and safe to use from several threads.
//
//   const Decoder decoder(file.decoder, "tokenizer.json");
//   decoder.decode({{"Hello", false}, {"Ġworld", false}});  // "Hello world"
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tokenizer/replacement.h"
#include "tokenizer/tokenizer_file.h"

namespace pare {

struct DecodedToken {
  std::string text;
  bool is_added = false;  ///< Spelled as it stands in the text, not in the byte alphabet.
};

class Decoder {
 public:
  /// `origin` is for messages. Throws Error(kInputMalformed) on a broken pattern.
  Decoder(std::vector<DecoderStep> steps, const std::string& origin);

  std::string decode(std::vector<DecodedToken> tokens) const;

 private:
  std::vector<DecoderStep> steps_;
  std::vector<std::optional<Replacement>> replacements_;  // By the step's number.
};

}  // namespace pare
