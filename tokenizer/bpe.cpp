#include "tokenizer/bpe.h"

#include <algorithm>
#include <limits>

#include "pare/error.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/unicode.h"

namespace pare {
namespace {

constexpr size_t kNone = std::numeric_limits<size_t>::max();
// Longer words are rare and seldom come back; the limits bound the memory of a long text.
constexpr size_t kLongestCached = 64;
constexpr size_t kMostCached = 100'000;

constexpr std::string_view kSpace = "\u2581";  // "▁", SentencePiece's space.

uint64_t pair_key(int32_t left, int32_t right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32U) | static_cast<uint32_t>(right);
}

}  // namespace

Bpe::Bpe(BpeModel model, const std::string& origin)
    : origin_(origin),
      special_(model.special_ids.begin(), model.special_ids.end()),
      first_part_(model.first_part_id.value_or(std::numeric_limits<int32_t>::max())),
      unknown_token_(std::move(model.unknown_token)),
      prefix_(std::move(model.continuing_subword_prefix)),
      suffix_(std::move(model.end_of_word_suffix)),
      whole_tokens_(std::move(model.whole_tokens)),
      fuse_unknown_(model.fuse_unknown),
      byte_fallback_(model.byte_fallback),
      ignore_merges_(model.ignore_merges) {
  vocabulary_.reserve(model.vocabulary.size());
  for (auto& [content, id] : model.vocabulary) {
    if (id >= first_part_) parts_.push_back(content);  // Their ids are in order.
    vocabulary_.emplace(std::move(content), id);
  }
  index_merges(model);
  index_bytes();
  std::vector<std::pair<std::string_view, int32_t>> whole;
  for (const std::string& token : whole_tokens_) whole.emplace_back(token, find(token));
  whole_trie_ = ByteTrie(std::move(whole));
  cut_at_spaces_ = can_cut_at_spaces();
}

void Bpe::index_merges(const BpeModel& model) {
  merges_.reserve(model.merges.size());
  for (size_t i = 0; i < model.merges.size(); ++i) {
    const auto& [left, right] = model.merges[i];
    const int32_t left_id = require(left, i, left, right);
    const int32_t right_id = require(right, i, left, right);
    std::string_view tail = right;
    if (!prefix_.empty() && tail.starts_with(prefix_)) tail.remove_prefix(prefix_.size());
    const int32_t id = require(left + std::string(tail), i, left, right);
    const uint32_t rank = model.ranks.empty() ? static_cast<uint32_t>(i) : model.ranks[i];
    // A pair that is listed twice has its last rank, as in the reference implementation.
    merges_[pair_key(left_id, right_id)] = {rank, id, special_.contains(id)};
  }
}

void Bpe::index_bytes() {
  byte_ids_.fill(-1);
  if (!byte_fallback_) return;
  for (const auto& [content, id] : vocabulary_) {
    if (const int byte = byte_of_token(content); byte >= 0) {
      byte_ids_[static_cast<size_t>(byte)] = id;
    }
  }
}

bool Bpe::can_cut_at_spaces() const {
  if (ignore_merges_ || !prefix_.empty() || !suffix_.empty() || find(kSpace) < 0) return false;
  for (const auto& [content, id] : vocabulary_) {
    for (size_t at = content.find(kSpace, 1); at != std::string::npos;
         at = content.find(kSpace, at + 1)) {
      if (!std::string_view(content).substr(0, at).ends_with(kSpace)) return false;
    }
  }
  return true;
}

int32_t Bpe::require(std::string_view content, size_t merge_index, const std::string& left,
                     const std::string& right) const {
  const auto found = vocabulary_.find(content);
  if (found == vocabulary_.end()) {
    throw Error(ErrorCode::kInputMalformed, origin_ + ": merge " + std::to_string(merge_index) +
                                                " (" + quoted_text(left) + ", " +
                                                quoted_text(right) + "): token " +
                                                quoted_text(content) + " is not in the vocabulary");
  }
  return found->second;
}

int32_t Bpe::find(std::string_view content) const {
  const auto found = vocabulary_.find(content);
  return found == vocabulary_.end() || found->second >= first_part_ ? -1 : found->second;
}

const Bpe::Merge* Bpe::find_merge(int32_t left, int32_t right, const BpeCache& cache) const {
  const auto found = merges_.find(pair_key(left, right));
  if (found == merges_.end()) return nullptr;
  return found->second.special && !cache.allow_special_ ? nullptr : &found->second;
}

void Bpe::encode(std::string_view word, BpeCache& cache, std::vector<int32_t>& ids) const {
  if (!cut_at_spaces_) {
    encode_word(word, cache, ids);
    return;
  }
  // No token reaches over the start of a run of spaces, so what is before it does not matter.
  size_t begin = 0;
  for (size_t at = 0; at < word.size();) {
    const size_t space = word.find(kSpace, at);
    if (space == std::string_view::npos) break;
    if (space > begin && space > at) {
      encode_word(word.substr(begin, space - begin), cache, ids);
      begin = space;
    }
    at = space + kSpace.size();
  }
  encode_word(word.substr(begin), cache, ids);
}

void Bpe::encode_word(std::string_view word, BpeCache& cache, std::vector<int32_t>& ids) const {
  if (word.empty()) return;
  if (ignore_merges_) {
    const int32_t id = find(word);
    if (id >= 0 && (cache.allow_special_ || !special_.contains(id))) {
      ids.push_back(id);
      return;
    }
  }
  const bool cached = word.size() <= kLongestCached;
  if (cached) {
    if (const auto known = cache.words_.find(word); known != cache.words_.end()) {
      ids.insert(ids.end(), known->second.begin(), known->second.end());
      return;
    }
  }
  start_symbols(word, cache);
  merge_symbols(cache);
  const size_t before = ids.size();
  append_ids(cache, ids);
  if (cached) {
    if (cache.words_.size() >= kMostCached) cache.words_.clear();
    cache.words_.emplace(
        word, std::vector<int32_t>(ids.begin() + static_cast<std::ptrdiff_t>(before), ids.end()));
  }
}

void Bpe::append_ids(const BpeCache& cache, std::vector<int32_t>& ids) const {
  // Where there are no parts start_symbols has fused what is unknown.
  const int32_t unknown = parts_.empty() || !unknown_token_ ? -1 : find(*unknown_token_);
  bool after_unknown = false;
  for (const auto& symbol : cache.symbols_) {
    if (symbol.id < 0) continue;
    if (symbol.id < first_part_ && symbol.id != unknown) {
      ids.push_back(symbol.id);
      after_unknown = false;
      continue;
    }
    if (symbol.id >= first_part_) {
      const std::string& character = parts_[static_cast<size_t>(symbol.id - first_part_)];
      if (byte_fallback_ && has_bytes(character)) {
        for (const char c : character) ids.push_back(byte_ids_[static_cast<uint8_t>(c)]);
        after_unknown = false;
        continue;
      }
      if (unknown < 0) unknown_id(character);  // Throws.
    }
    if (!(after_unknown && fuse_unknown_)) ids.push_back(unknown);
    after_unknown = true;
  }
}

void Bpe::append_symbol(int32_t id, bool frozen, BpeCache& cache) {
  auto& symbols = cache.symbols_;
  const size_t index = symbols.size();
  if (index > 0) symbols.back().next = index;
  symbols.push_back({id, frozen, index > 0 ? index - 1 : kNone, kNone});
}

size_t Bpe::whole_token_at(std::string_view word, size_t at, int32_t& id) const {
  size_t longest = 0;
  uint32_t node = ByteTrie::kRoot;
  for (size_t end = at; end < word.size() && whole_trie_.step(node, word[end]); ++end) {
    if (whole_trie_.value(node) < 0) continue;
    id = whole_trie_.value(node);
    longest = end + 1 - at;
  }
  return longest;
}

bool Bpe::has_bytes(std::string_view character) const {
  return std::all_of(character.begin(), character.end(),
                     [&](char c) { return byte_ids_[static_cast<uint8_t>(c)] >= 0; });
}

int32_t Bpe::unknown_id(std::string_view character) const {
  // The reference implementation drops such a character without a word; ids that silently lack
  // text are worse than none.
  if (!unknown_token_) {
    throw Error(ErrorCode::kInputMalformed,
                origin_ + ": the text holds the character " + quoted_text(character) +
                    ", which is not in the vocabulary, and there is no unk_token");
  }
  const int32_t id = find(*unknown_token_);
  if (id < 0) {
    throw Error(
        ErrorCode::kInputMalformed,
        origin_ + ": unk_token " + quoted_text(*unknown_token_) + " is not in the vocabulary");
  }
  return id;
}

void Bpe::start_symbols(std::string_view word, BpeCache& cache) const {
  cache.symbols_.clear();
  const bool decorated = !prefix_.empty() || !suffix_.empty();
  bool after_unknown = false;
  std::string buffer;
  for (size_t at = 0; at < word.size();) {
    int32_t id = -1;
    if (!whole_trie_.empty()) {
      if (const size_t size = whole_token_at(word, at, id); size > 0) {
        append_symbol(id, /*frozen=*/true, cache);
        at += size;
        after_unknown = false;
        continue;
      }
    }
    std::string_view character = word.substr(at, code_point_at(word, at).size);
    const bool first = at == 0;
    at += character.size();
    if (decorated) {
      buffer.assign(first ? "" : prefix_)
          .append(character)
          .append(at == word.size() ? suffix_ : "");
      character = buffer;
    }
    const auto known = vocabulary_.find(character);
    if (known != vocabulary_.end()) {
      append_symbol(known->second, /*frozen=*/false, cache);
      after_unknown = false;
    } else if (byte_fallback_ && has_bytes(character)) {
      for (const char c : character) {
        append_symbol(byte_ids_[static_cast<uint8_t>(c)], /*frozen=*/false, cache);
      }
      after_unknown = false;
    } else {
      id = unknown_id(character);
      if (!(after_unknown && fuse_unknown_)) append_symbol(id, /*frozen=*/false, cache);
      after_unknown = true;
    }
  }
}

void Bpe::push_candidate(size_t left, BpeCache& cache) const {
  const size_t right = cache.symbols_[left].next;
  if (right == kNone || cache.symbols_[left].frozen || cache.symbols_[right].frozen) return;
  const Merge* merge = find_merge(cache.symbols_[left].id, cache.symbols_[right].id, cache);
  if (merge == nullptr) return;
  cache.heap_.push_back({merge->rank, merge->id, left});
  std::push_heap(cache.heap_.begin(), cache.heap_.end(), std::greater<>());
}

void Bpe::merge_symbols(BpeCache& cache) const {
  auto& symbols = cache.symbols_;
  auto& heap = cache.heap_;
  heap.clear();
  for (size_t i = 0; i < symbols.size(); ++i) push_candidate(i, cache);
  while (!heap.empty()) {
    const auto best = heap.front();
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    heap.pop_back();
    auto& left = symbols[best.position];
    if (left.id < 0 || left.next == kNone) continue;
    // A merge nearby may have changed the pair since it was pushed.
    auto& right = symbols[left.next];
    const Merge* merge = right.frozen ? nullptr : find_merge(left.id, right.id, cache);
    if (merge == nullptr || merge->id != best.merged_id) continue;
    left.id = best.merged_id;
    left.next = right.next;
    right.id = -1;
    if (left.next != kNone) symbols[left.next].previous = best.position;
    if (left.previous != kNone) push_candidate(left.previous, cache);
    push_candidate(best.position, cache);
  }
}

}  // namespace pare
