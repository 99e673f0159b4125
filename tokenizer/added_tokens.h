// Finds added tokens in text before anything else cuts it.
//
// Tokens that are not `normalized` are looked for in the raw text, the others (spelled normalized)
// in the normalized text between them. At each position the longest token wins. Immutable and safe
// to use from several threads.
//
//   const AddedTokens added(file.added_tokens, normalizer);
//   for (const TextSegment& segment : added.split("a<|end|>", AddedTokens::Stage::kRaw)) ...
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

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

  /// REQUIRES: valid UTF-8. Text segments are never empty.
  std::vector<TextSegment> split(std::string_view text, Stage stage) const;

 private:
  // A byte trie; node 0 is the root.
  struct Node {
    std::vector<std::pair<uint8_t, uint32_t>> children;
    int32_t token = -1;  // Index into tokens_.
  };
  struct Trie {
    std::vector<Node> nodes{1};
    std::array<uint32_t, 256> first{};  // Child of the root; 0 where there is none.
    void insert(std::string_view content, int32_t token);
  };
  struct Match {
    int32_t token = -1;
    size_t size = 0;
  };
  static Match longest_match(const Trie& trie, std::string_view text, size_t at);

  std::vector<AddedToken> tokens_;
  Trie raw_;
  Trie normalized_;
};

}  // namespace pare
