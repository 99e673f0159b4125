// What every id spells: the vocabulary and the added tokens in one table.
//
// Built in two steps, then immutable and safe to use from several threads.
//
//   TokenTable table("tokenizer.json");
//   for (const auto& [content, id] : bpe.vocabulary()) table.add(id, content);
//   const std::vector<AddedToken> tokens = table.add_tokens(file.added_tokens, find_in_bpe);
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/string_map.h"
#include "tokenizer/tokenizer_file.h"

namespace pare {

class TokenTable {
 public:
  struct Entry {
    std::string content;
    bool is_added = false;
    bool is_special = false;
  };

  /// `origin` is for messages.
  explicit TokenTable(std::string origin);

  /// A token of the vocabulary. REQUIRES: the id is new.
  void add(int32_t id, std::string_view content);

  /// Returns the added tokens without repetitions and empty ones, which match nothing. Throws
  /// Error(kInputMalformed) unless a content has one id, over the vocabulary (`find_known`: −1 for
  /// what it does not hold) and the added tokens, and an id one content.
  std::vector<AddedToken> add_tokens(const std::vector<AddedToken>& tokens,
                                     const std::function<int32_t(std::string_view)>& find_known);

  /// Throws Error(kInputMalformed) when no token has the id.
  const Entry& at(int32_t id) const;

  bool contains(int32_t id) const { return by_id_.contains(id); }

  /// The id of an added token, or −1.
  int32_t find_added(std::string_view content) const;

  /// One more than the largest id.
  int32_t size() const { return size_; }

 private:
  std::string origin_;
  std::unordered_map<int32_t, Entry> by_id_;
  StringMap<int32_t> added_ids_;
  int32_t size_ = 0;
};

/// Ids of the special tokens of more than one character: what plain text must not become. A single
/// character that was declared special is still a character.
std::vector<int32_t> special_ids(const std::vector<AddedToken>& tokens);

}  // namespace pare
