#include "tokenizer/unigram.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "pare/error.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/unicode.h"

namespace pare {
namespace {

constexpr double kUnknownPenalty = 10;
// Longer words are rare and seldom come back; the limits bound the memory of a long text.
constexpr size_t kLongestCached = 64;
constexpr size_t kMostCached = 100'000;

[[noreturn]] void fail(const std::string& origin, const std::string& what) {
  throw Error(ErrorCode::kInputMalformed, origin + ": " + what);
}

}  // namespace

Unigram::Unigram(UnigramModel model, const std::string& origin)
    : origin_(origin), model_(std::move(model)) {
  const auto& pieces = model_.pieces;
  if (pieces.empty()) fail(origin_, "the unigram vocabulary is empty");
  if (model_.unknown_id && static_cast<size_t>(*model_.unknown_id) >= pieces.size()) {
    fail(origin_, "unk_id is " + std::to_string(*model_.unknown_id) + ", but there are only " +
                      std::to_string(pieces.size()) + " pieces");
  }
  auto lowest = static_cast<double>(std::numeric_limits<float>::max());
  std::vector<std::pair<std::string_view, int32_t>> strings;
  strings.reserve(pieces.size());
  for (size_t i = pieces.size(); i-- > 0;) {  // Of equal pieces the last one counts.
    const UnigramPiece& piece = pieces[i];
    if (!std::isfinite(piece.score)) {
      fail(origin_, "piece " + quoted_text(piece.text) + ": its score is not a finite number");
    }
    check_token_size(piece.text, origin_);
    if (piece.use == PieceUse::kNormal) lowest = std::min(lowest, piece.score);
    strings.emplace_back(piece.text, static_cast<int32_t>(i));
  }
  trie_ = ByteTrie(std::move(strings));
  unknown_score_ = lowest - kUnknownPenalty;
  if (model_.single_precision) {
    unknown_score_ = static_cast<double>(static_cast<float>(unknown_score_));
  }
  special_.assign(pieces.size(), false);
  for (const int32_t id : model_.special_ids) {
    if (static_cast<size_t>(id) < special_.size()) special_[static_cast<size_t>(id)] = true;
  }
  if (!model_.byte_fallback) return;
  byte_ids_.fill(-1);
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (const int byte = byte_of_token(pieces[i].text); byte >= 0) {
      byte_ids_[static_cast<size_t>(byte)] = static_cast<int32_t>(i);
    }
  }
  has_all_bytes_ =
      std::all_of(byte_ids_.begin(), byte_ids_.end(), [](int32_t id) { return id >= 0; });
}

int32_t Unigram::find(std::string_view piece) const {
  uint32_t node = ByteTrie::kRoot;
  for (const char byte : piece) {
    if (!trie_.step(node, byte)) return -1;
  }
  return trie_.value(node);
}

void Unigram::improve(UnigramCache& cache, size_t begin, size_t end, int32_t id,
                      double score) const {
  if (model_.single_precision) score = static_cast<double>(static_cast<float>(score));
  auto& best = cache.best_[end];
  if (best.id == UnigramCache::kNone || score > best.score) best = {score, begin, id};
}

void Unigram::find_best(std::string_view text, UnigramCache& cache) const {
  cache.best_.assign(text.size() + 1, {});
  for (size_t begin = 0; begin < text.size();) {
    const size_t character = code_point_at(text, begin).size;
    const double before = cache.best_[begin].score;
    bool has_character = false;
    uint32_t node = ByteTrie::kRoot;
    for (size_t end = begin; end < text.size() && trie_.step(node, text[end]); ++end) {
      const int32_t id = trie_.value(node);
      if (id < 0) continue;
      const size_t size = end + 1 - begin;
      if (!cache.allow_special_ && special_[static_cast<size_t>(id)] && size > character) continue;
      const UnigramPiece& piece = model_.pieces[static_cast<size_t>(id)];
      if (piece.use == PieceUse::kNever) continue;
      improve(cache, begin, end + 1, id, before + piece_score(piece, size));
      has_character = has_character || size == character;
    }
    if (!has_character) {
      improve(cache, begin, begin + character, kUnknown, before + unknown_score_);
    }
    begin += character;
  }
  cache.path_.clear();
  for (size_t end = text.size(); end > 0;) {
    auto piece = cache.best_[end];
    cache.path_.push_back({0, piece.begin, piece.id});
    end = piece.begin;
  }
  std::reverse(cache.path_.begin(), cache.path_.end());
}

double Unigram::piece_score(const UnigramPiece& piece, size_t size) const {
  if (piece.use != PieceUse::kAlways) return piece.score;
  // SentencePiece's rule for pieces that a user demanded.
  constexpr double kLess = 0.1;
  return static_cast<double>(static_cast<float>(size) * model_.largest_score) - kLess;
}

void Unigram::encode(std::string_view text, UnigramCache& cache, std::vector<int32_t>& ids) const {
  if (text.empty()) return;
  const bool cached = text.size() <= kLongestCached;
  if (cached) {
    if (const auto known = cache.words_.find(text); known != cache.words_.end()) {
      ids.insert(ids.end(), known->second.begin(), known->second.end());
      return;
    }
  }
  find_best(text, cache);
  const size_t before = ids.size();
  const auto& path = cache.path_;
  for (size_t i = 0; i < path.size();) {
    if (!is_unknown(path[i].id)) {
      ids.push_back(path[i++].id);
      continue;
    }
    const size_t begin = path[i].begin;
    do {
      ++i;
    } while (i < path.size() && is_unknown(path[i].id));
    const size_t end = i < path.size() ? path[i].begin : text.size();
    append_unknown(text.substr(begin, end - begin), ids);
  }
  if (!cached) return;
  if (cache.words_.size() >= kMostCached) cache.words_.clear();
  cache.words_.emplace(
      text, std::vector<int32_t>(ids.begin() + static_cast<std::ptrdiff_t>(before), ids.end()));
}

bool Unigram::is_unknown(int32_t id) const {
  return id == kUnknown || (model_.unknown_id && id == *model_.unknown_id);
}

void Unigram::append_unknown(std::string_view text, std::vector<int32_t>& ids) const {
  const bool as_bytes =
      model_.byte_fallback && (has_all_bytes_ || std::all_of(text.begin(), text.end(), [&](char c) {
                                 return byte_ids_[static_cast<uint8_t>(c)] >= 0;
                               }));
  if (as_bytes) {
    for (const char c : text) ids.push_back(byte_ids_[static_cast<uint8_t>(c)]);
    return;
  }
  if (!model_.unknown_id) {
    fail(origin_, "the text holds " + quoted_text(text) +
                      ", which is not in the vocabulary, and there is no unk_id");
  }
  ids.push_back(*model_.unknown_id);
}

}  // namespace pare
