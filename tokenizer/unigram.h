// The unigram language model: of all ways to cut a text into pieces, the one with the largest sum
// of log probabilities, found by Viterbi's algorithm (Kudo 2018, "Subword Regularization").
//
// A character that is no piece costs 10 more than the worst piece. Of equal sums the first one
// found stays, and rounding decides which are equal ("..." as "." and ".." or the other way
// around), so the arithmetic is part of what a file means: double precision for tokenizer.json,
// single for SentencePiece, as the two reference implementations have it. Immutable and safe to use
// from several threads; each thread brings its own UnigramCache.
//
//   const Unigram unigram(std::move(file.model), "tokenizer.json");
//   UnigramCache cache;
//   unigram.encode("▁hello", cache, ids);
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/byte_trie.h"
#include "tokenizer/string_map.h"
#include "tokenizer/tokenizer_file.h"

namespace pare {

/// Words met before, and working memory; one thread's. Belongs to one Unigram.
class UnigramCache {
 public:
  /// Without `allow_special` text never becomes a special token of more than one character.
  explicit UnigramCache(bool allow_special = true) : allow_special_(allow_special) {}

 private:
  friend class Unigram;
  static constexpr int32_t kNone = -2;
  struct Best {
    double score = 0;
    size_t begin = 0;  // Of the last piece of the best cut that ends here.
    int32_t id = kNone;
  };

  bool allow_special_;
  StringMap<std::vector<int32_t>> words_;
  std::vector<Best> best_;
  std::vector<Best> path_;
};

class Unigram {
 public:
  /// `origin` is for messages. Throws Error(kInputMalformed) when a score is not finite, a piece is
  /// too long, or byte_fallback lacks bytes.
  Unigram(UnigramModel model, const std::string& origin);

  /// Appends the ids of a text. REQUIRES: valid UTF-8. Throws Error(kInputMalformed) when a
  /// character is not in the vocabulary and nothing stands for it.
  void encode(std::string_view text, UnigramCache& cache, std::vector<int32_t>& ids) const;

  /// The id of a piece, or −1.
  int32_t find(std::string_view piece) const;

  /// Pieces by id.
  const std::vector<UnigramPiece>& pieces() const { return model_.pieces; }

 private:
  void find_best(std::string_view text, UnigramCache& cache) const;
  void improve(UnigramCache& cache, size_t begin, size_t end, int32_t id, double score) const;
  double piece_score(const UnigramPiece& piece, size_t size) const;
  bool is_unknown(int32_t id) const;
  void append_unknown(std::string_view text, std::vector<int32_t>& ids) const;

  static constexpr int32_t kUnknown = -1;  // A character that is no piece.

  std::string origin_;
  UnigramModel model_;
  ByteTrie trie_;
  std::vector<bool> special_;  // By id.
  double unknown_score_ = 0;
  std::array<int32_t, 256> byte_ids_{};  // −1 where there is none.
  bool has_all_bytes_ = false;
};

}  // namespace pare
