// Byte-pair encoding of one word: the pair of neighbours with the lowest rank is merged, the
// leftmost first, until no pair is in the list (Sennrich et al. 2016, "Neural Machine Translation
// of Rare Words with Subword Units"). A word of n characters takes O(n log n). Vocabularies whose
// tokens hold "▁" only in front let a text be cut there, so that most words come from the cache.
//
// Immutable and safe to use from several threads; each thread brings its own BpeCache.
//
//   const Bpe bpe(std::move(file.model), "tokenizer.json");
//   BpeCache cache;
//   std::vector<int32_t> ids;
//   bpe.encode("Ġworld", cache, ids);
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "tokenizer/byte_trie.h"
#include "tokenizer/string_map.h"
#include "tokenizer/tokenizer_file.h"

namespace pare {

/// Words met before, and working memory; one thread's. Belongs to one Bpe.
class BpeCache {
 public:
  /// Without `allow_special` text never becomes a special token of more than one character.
  explicit BpeCache(bool allow_special = true) : allow_special_(allow_special) {}

 private:
  friend class Bpe;
  struct Symbol {
    int32_t id;   // −1 once it was merged into its left neighbour.
    bool frozen;  // Never merged.
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

  bool allow_special_;
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
    bool special;
  };
  const Merge* find_merge(int32_t left, int32_t right, const BpeCache& cache) const;
  int32_t require(std::string_view content, size_t merge_index, const std::string& left,
                  const std::string& right) const;
  void index_merges(const BpeModel& model);
  void index_bytes();
  bool can_cut_at_spaces() const;
  void encode_word(std::string_view word, BpeCache& cache, std::vector<int32_t>& ids) const;
  size_t whole_token_at(std::string_view word, size_t at, int32_t& id) const;
  static void append_symbol(int32_t id, bool frozen, BpeCache& cache);
  void start_symbols(std::string_view word, BpeCache& cache) const;
  bool has_bytes(std::string_view character) const;
  int32_t unknown_id(std::string_view character) const;
  void append_ids(const BpeCache& cache, std::vector<int32_t>& ids) const;
  void push_candidate(size_t left, BpeCache& cache) const;
  void merge_symbols(BpeCache& cache) const;

  std::string origin_;
  StringMap<int32_t> vocabulary_;
  std::unordered_map<uint64_t, Merge> merges_;  // By the two ids.
  std::unordered_set<int32_t> special_;
  std::array<int32_t, 256> byte_ids_{};  // Of byte fallback, −1 where there is none.
  std::vector<std::string> parts_;       // By id − first_part_.
  int32_t first_part_;
  std::optional<std::string> unknown_token_;
  std::string prefix_;
  std::string suffix_;
  std::vector<std::string> whole_tokens_;  // What the trie was made from.
  ByteTrie whole_trie_;
  bool fuse_unknown_;
  bool byte_fallback_;
  bool ignore_merges_;
  bool cut_at_spaces_ = false;
};

}  // namespace pare
