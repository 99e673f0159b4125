#include "tokenizer/bpe.h"

#include <algorithm>
#include <limits>

#include "pare/error.h"
#include "tokenizer/unicode.h"

namespace pare {
namespace {

constexpr size_t kNone = std::numeric_limits<size_t>::max();
// Longer words are rare and seldom come back; the limits bound the memory of a long text.
constexpr size_t kLongestCached = 64;
constexpr size_t kMostCached = 100'000;

uint64_t pair_key(int32_t left, int32_t right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32U) | static_cast<uint32_t>(right);
}

}  // namespace

Bpe::Bpe(BpeModel model, const std::string& origin)
    : origin_(origin),
      unknown_token_(std::move(model.unknown_token)),
      fuse_unknown_(model.fuse_unknown),
      ignore_merges_(model.ignore_merges) {
  vocabulary_.reserve(model.vocabulary.size());
  for (auto& [content, id] : model.vocabulary) vocabulary_.emplace(std::move(content), id);
  merges_.reserve(model.merges.size());
  for (size_t i = 0; i < model.merges.size(); ++i) {
    const auto& [left, right] = model.merges[i];
    const int32_t left_id = require(left, i, left, right);
    const int32_t right_id = require(right, i, left, right);
    const int32_t merged_id = require(left + right, i, left, right);
    // A pair that is listed twice has its last rank, as in the reference implementation.
    merges_[pair_key(left_id, right_id)] = {static_cast<uint32_t>(i), merged_id};
  }
}

int32_t Bpe::require(std::string_view content, size_t merge_index, const std::string& left,
                     const std::string& right) const {
  const int32_t id = find(content);
  if (id < 0) {
    throw Error(ErrorCode::kInputMalformed, origin_ + ": merge " + std::to_string(merge_index) +
                                                " (" + quoted_text(left) + ", " +
                                                quoted_text(right) + "): token " +
                                                quoted_text(content) + " is not in the vocabulary");
  }
  return id;
}

int32_t Bpe::find(std::string_view content) const {
  const auto found = vocabulary_.find(content);
  return found == vocabulary_.end() ? -1 : found->second;
}

const Bpe::Merge* Bpe::find_merge(int32_t left, int32_t right) const {
  const auto found = merges_.find(pair_key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void Bpe::encode(std::string_view word, BpeCache& cache, std::vector<int32_t>& ids) const {
  if (word.empty()) return;
  if (ignore_merges_) {
    if (const int32_t id = find(word); id >= 0) {
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
  for (const auto& symbol : cache.symbols_) {
    if (symbol.id >= 0) ids.push_back(symbol.id);
  }
  if (cached) {
    if (cache.words_.size() >= kMostCached) cache.words_.clear();
    cache.words_.emplace(
        word, std::vector<int32_t>(ids.begin() + static_cast<std::ptrdiff_t>(before), ids.end()));
  }
}

void Bpe::append_symbol(int32_t id, BpeCache& cache) const {
  auto& symbols = cache.symbols_;
  const size_t index = symbols.size();
  if (index > 0) symbols.back().next = index;
  symbols.push_back({id, index > 0 ? index - 1 : kNone, kNone});
}

void Bpe::start_symbols(std::string_view word, BpeCache& cache) const {
  cache.symbols_.clear();
  bool after_unknown = false;
  for (size_t at = 0; at < word.size();) {
    const std::string_view character = word.substr(at, code_point_at(word, at).size);
    at += character.size();
    int32_t id = find(character);
    const bool unknown = id < 0;
    if (unknown) {
      // The reference implementation drops such a character without a word; ids that silently lack
      // text are worse than none.
      if (!unknown_token_) {
        throw Error(ErrorCode::kInputMalformed,
                    origin_ + ": the text holds the character " + quoted_text(character) +
                        ", which is not in the vocabulary, and there is no unk_token");
      }
      id = find(*unknown_token_);
      if (id < 0) {
        throw Error(
            ErrorCode::kInputMalformed,
            origin_ + ": unk_token " + quoted_text(*unknown_token_) + " is not in the vocabulary");
      }
    }
    if (!(unknown && after_unknown && fuse_unknown_)) append_symbol(id, cache);
    after_unknown = unknown;
  }
}

void Bpe::push_candidate(size_t left, BpeCache& cache) const {
  const size_t right = cache.symbols_[left].next;
  if (right == kNone) return;
  const Merge* merge = find_merge(cache.symbols_[left].id, cache.symbols_[right].id);
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
    const Merge* merge = find_merge(left.id, right.id);
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
