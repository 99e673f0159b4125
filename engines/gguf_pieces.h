// A tokenizer.json of byte pairs over characters, as the SentencePiece model that it came from.
//
//   const SentencePieceFile pieces = sentence_pieces_of(parse_tokenizer_json(text, origin), …);
#pragma once

#include <string>
#include <vector>

#include "tokenizer/sentencepiece_file.h"
#include "tokenizer/tokenizer_file.h"

namespace pare {

/// The score of a piece is the rank of the merge that makes it, less than zero; a piece without
/// text is an id that the vocabulary does not have. Warns where SentencePiece, which merges
/// whatever spells a piece, would cut a text in another way. Throws Error(kInputMalformed),
/// beginning with `origin`, for steps that SentencePiece does not have. REQUIRES: file.model is a
/// BpeModel with byte_fallback.
SentencePieceFile sentence_pieces_of(const TokenizerFile& file, const std::string& origin,
                                     std::vector<std::string>& warnings);

}  // namespace pare
