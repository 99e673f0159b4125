// Byte-pair encoding of one word: the pair of neighbours with the lowest rank is merged, the
// leftmost first, until no pair is in the list (Sennrich et al. 2016, "Neural Machine Translation
// of Rare Words with Subword Units"). A word of n characters takes O(n log n).
//
// Immutable and safe to use from several threads; each thread brings its own BpeCache.
//
//   const Bpe bpe(std::move(file.model), "tokenizer.json");
//   BpeCache cache;
//   std::vector<int32_t> ids;
//   bpe.encode("Ġworld", cache, ids);
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tokenizer/tokenizer_file.h"

namespace pare {

struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
template <typename Value>
using StringMap = std::unordered_map<std::string, Value, StringHash, std::equal_to<>>;

/// Words met before, and working memory; one thread's. Belongs to one Bpe.
class BpeCache {
 private:
  friend class Bpe;
  struct Symbol {
    int32_t id;  // −1 once it was merged into its left neighbour.
    size_t previous;
    size_t next;
  };
  struct Candidate {
    uint32_t rank;
    int32_t merged_id;
    size_t position;  // Of the left symbol.
    bool operator>(const Candidate& other) const {
      return std::pair(rank, position) > std::pair(other.rank, other.position);
    }
  };

  StringMap<std::vector<int32_t>> words_;
  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
};

class Bpe {
 public:
  /// `origin` is for messages. Throws Error(kInputMalformed) when a merge names a token that is not
  /// in the vocabulary.
  Bpe(BpeModel model, const std::string& origin);

  /// Appends the ids of a word. REQUIRES: valid UTF-8. Throws Error(kInputMalformed) when a
  /// character is not in the vocabulary and no unknown token stands for it.
  void encode(std::string_view word, BpeCache& cache, std::vector<int32_t>& ids) const;

  /// The id of a token by its content, or −1.
  int32_t find(std::string_view content) const;

  const StringMap<int32_t>& vocabulary() const { return vocabulary_; }

 private:
  struct Merge {
    uint32_t rank;
    int32_t id;
  };
  const Merge* find_merge(int32_t left, int32_t right) const;
  int32_t require(std::string_view content, size_t merge_index, const std::string& left,
                  const std::string& right) const;
  void append_symbol(int32_t id, BpeCache& cache) const;
  void start_symbols(std::string_view word, BpeCache& cache) const;
  void push_candidate(size_t left, BpeCache& cache) const;
  void merge_symbols(BpeCache& cache) const;

  std::string origin_;
  StringMap<int32_t> vocabulary_;
  std::unordered_map<uint64_t, Merge> merges_;  // By the two ids.
  std::optional<std::string> unknown_token_;
  bool fuse_unknown_;
  bool ignore_merges_;
};

}  // namespace pare
