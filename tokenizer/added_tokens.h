// Finds added tokens in text before anything else cuts it.
//
// Tokens that are not `normalized` are looked for in the raw text, the others (spelled normalized)
// in the normalized text between them. At each position the longest token wins. Immutable and safe
// to use from several threads.
//
//   const AddedTokens added(file.added_tokens, normalizer);
//   for (const TextSegment& segment : added.split("a<|end|>", AddedTokens::Stage::kRaw)) ...
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer/byte_trie.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/tokenizer_file.h"

namespace pare {

/// A part of a text, [begin, end) in bytes: one token, or text between tokens.
struct TextSegment {
  static constexpr int32_t kText = -1;

  size_t begin;
  size_t end;
  int32_t id;  ///< The token's id, or kText.
};

class AddedTokens {
 public:
  enum class Stage { kRaw, kNormalized };

  AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer);

  /// REQUIRES: valid UTF-8. Text segments are never empty. Unless `parse_special`, special tokens
  /// are text like any other.
  std::vector<TextSegment> split(std::string_view text, Stage stage,
                                 bool parse_special = true) const;

 private:
  struct Match {
    int32_t token = -1;
    size_t size = 0;
  };
  static Match longest_match(const ByteTrie& trie, std::string_view text, size_t at);

  std::vector<AddedToken> tokens_;
  struct Tries {
    ByteTrie raw;  // Values are indices into tokens_.
    ByteTrie normalized;
  };
  Tries all_;
  Tries plain_;  // Without special tokens, so that they hide no others.
};

}  // namespace pare
