// Cuts text into the words that the model works on: the steps of tokenizer.json in order.
//
// Every step works on each piece of the step before. ByteLevel rewrites the pieces in the byte
// alphabet, so that a later step sees "Ġ" and not " ", and Metaspace writes "▁". Immutable and safe
// to use from several threads.
//
//   const PreTokenizer pre_tokenizer(file.pre_tokenizer, "tokenizer.json");
//   RegexScratch scratch;
//   const PieceList words = pre_tokenizer.split("Hello world", scratch);
//   words.piece(1);  // "Ġworld"
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/regex.h"
#include "tokenizer/tokenizer_file.h"

namespace pare {

/// Parts of one text, in order, none empty.
struct PieceList {
  std::string text;
  std::vector<std::pair<size_t, size_t>> bounds;  ///< [begin, end) in bytes.

  std::string_view piece(size_t i) const {
    return std::string_view(text).substr(bounds[i].first, bounds[i].second - bounds[i].first);
  }
};

class PreTokenizer {
 public:
  /// `origin` is for messages. Throws Error(kInputMalformed) on a broken pattern.
  PreTokenizer(std::vector<PreTokenizerStep> steps, const std::string& origin);

  /// REQUIRES: valid UTF-8. `is_first` says that nothing of the document is before the text.
  PieceList split(std::string text, RegexScratch& scratch, bool is_first = true) const;

 private:
  std::vector<PreTokenizerStep> steps_;
  std::vector<std::optional<Regex>> regexes_;  // Of the steps that have one, by number.
};

}  // namespace pare
