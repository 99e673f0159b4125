#include "tokenizer/tokenizer.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "pare/error.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/post_processor.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer_file.h"
#include "tokenizer/unicode.h"

namespace pare {
namespace {

[[noreturn]] void fail(const std::string& origin, const std::string& what) {
  throw Error(ErrorCode::kInputMalformed, origin + ": " + what);
}

}  // namespace

struct Tokenizer::State {
  State(TokenizerFile file, std::string name)
      : origin(std::move(name)),
        byte_level(file.byte_level),
        templates(std::move(file.post_processor)),
        normalizer(std::move(file.normalizer), origin),
        pre_tokenizer(std::move(file.pre_tokenizer), origin),
        bpe(std::move(file.model), origin),
        added(index_tokens(file.added_tokens), normalizer) {
    for (const PostProcessorTemplate& step : templates) {
      check_ids(step.before);
      check_ids(step.after);
    }
  }

  // One id, one content, over vocabulary and added tokens; returns the added tokens without
  // repetitions and empty ones, which match nothing.
  std::vector<AddedToken> index_tokens(const std::vector<AddedToken>& tokens) {
    by_id.reserve(bpe.vocabulary().size() + tokens.size());
    for (const auto& [content, id] : bpe.vocabulary()) {
      by_id.emplace(id, Entry{content, false, false});
      size = std::max(size, id + 1);
    }
    std::vector<AddedToken> kept;
    for (const AddedToken& token : tokens) {
      if (token.content.empty() || added_ids.contains(token.content)) {
        if (!token.content.empty() && added_ids.find(token.content)->second != token.id) {
          fail(origin, "added token " + quoted_text(token.content) + " is listed with two ids, " +
                           std::to_string(added_ids.find(token.content)->second) + " and " +
                           std::to_string(token.id));
        }
        continue;
      }
      const int32_t known = bpe.find(token.content);
      if (known >= 0 && known != token.id) {
        fail(origin, "added token " + quoted_text(token.content) + " has id " +
                         std::to_string(token.id) + ", but the vocabulary says " +
                         std::to_string(known));
      }
      const auto [entry, fresh] = by_id.try_emplace(token.id);
      if (!fresh && entry->second.content != token.content) {
        fail(origin, "added token " + quoted_text(token.content) + ": id " +
                         std::to_string(token.id) + " belongs to " +
                         quoted_text(entry->second.content) + " too");
      }
      entry->second = {token.content, true, token.special};
      added_ids.emplace(token.content, token.id);
      size = std::max(size, token.id + 1);
      kept.push_back(token);
    }
    return kept;
  }

  void check_ids(const std::vector<int32_t>& ids) const {
    for (const int32_t id : ids) {
      if (!by_id.contains(id)) {
        fail(origin, "post_processor: no token has the id " + std::to_string(id));
      }
    }
  }

  // Text between added tokens.
  void encode_text(std::string_view text, RegexScratch& scratch, BpeCache& cache,
                   std::vector<int32_t>& ids) const {
    const PieceList words = pre_tokenizer.split(std::string(text), scratch);
    for (size_t i = 0; i < words.bounds.size(); ++i) bpe.encode(words.piece(i), cache, ids);
  }

  struct Entry {
    std::string content;
    bool is_added = false;
    bool is_special = false;
  };

  std::string origin;
  bool byte_level;
  int32_t size = 0;
  std::unordered_map<int32_t, Entry> by_id;
  StringMap<int32_t> added_ids;
  std::vector<PostProcessorTemplate> templates;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  Bpe bpe;
  AddedTokens added;  // Last: it is made from the others.
};

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

Tokenizer Tokenizer::from_json(std::string_view json, const std::string& origin) {
  return Tokenizer(std::make_unique<State>(parse_tokenizer_json(json, origin), origin));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  const State& state = *state_;
  RegexScratch scratch;
  BpeCache cache;
  std::vector<int32_t> ids;
  const std::string valid = replace_invalid_utf8(text);
  for (const TextSegment& raw : state.added.split(valid, AddedTokens::Stage::kRaw)) {
    if (raw.id != TextSegment::kText) {
      ids.push_back(raw.id);
      continue;
    }
    const std::string normalized = state.normalizer.apply(
        std::string_view(valid).substr(raw.begin, raw.end - raw.begin), scratch);
    for (const TextSegment& segment :
         state.added.split(normalized, AddedTokens::Stage::kNormalized)) {
      if (segment.id != TextSegment::kText) {
        ids.push_back(segment.id);
      } else {
        state.encode_text(
            std::string_view(normalized).substr(segment.begin, segment.end - segment.begin),
            scratch, cache, ids);
      }
    }
  }
  if (add_special_tokens) apply_templates(state.templates, ids);
  return ids;
}

std::string Tokenizer::decode(const std::vector<int32_t>& ids, bool skip_special_tokens) const {
  std::string bytes;
  for (const int32_t id : ids) {
    const auto found = state_->by_id.find(id);
    if (found == state_->by_id.end()) {
      fail(state_->origin, "no token has the id " + std::to_string(id));
    }
    const State::Entry& entry = found->second;
    if (skip_special_tokens && entry.is_special) continue;
    // Added tokens are spelled as they stand in the text, and so is what a byte-level vocabulary
    // holds outside the alphabet.
    if (entry.is_added || !state_->byte_level || !append_character_bytes(bytes, entry.content)) {
      bytes += entry.content;
    }
  }
  return bytes;
}

int32_t Tokenizer::vocab_size() const { return state_->size; }

int32_t Tokenizer::token_to_id(std::string_view token) const {
  const auto added = state_->added_ids.find(token);
  return added != state_->added_ids.end() ? added->second : state_->bpe.find(token);
}

}  // namespace pare
