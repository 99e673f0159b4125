#include "tokenizer/added_tokens.h"

#include <algorithm>
#include <string>

#include "tokenizer/unicode.h"

namespace pare {
namespace {

bool word_ends_at(std::string_view text, size_t end) {
  return end > 0 && is_word_character(code_point_before(text, end).value);
}

bool word_starts_at(std::string_view text, size_t at) {
  return at < text.size() && is_word_character(code_point_at(text, at).value);
}

size_t white_space_before(std::string_view text, size_t end, size_t lowest) {
  while (end > lowest) {
    const CodePoint point = code_point_before(text, end);
    if (!is_white_space(point.value)) break;
    end -= point.size;
  }
  return std::max(end, lowest);
}

size_t white_space_behind(std::string_view text, size_t at) {
  while (at < text.size()) {
    const CodePoint point = code_point_at(text, at);
    if (!is_white_space(point.value)) break;
    at += point.size;
  }
  return at;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer)
    : tokens_(std::move(tokens)) {
  std::stable_partition(tokens_.begin(), tokens_.end(),
                        [](const AddedToken& token) { return token.special; });
  RegexScratch scratch;
  std::vector<std::string> spellings;
  spellings.reserve(tokens_.size());
  for (const AddedToken& token : tokens_) {
    spellings.push_back(token.normalized ? normalizer.apply(token.content, scratch)
                                         : token.content);
  }
  using Strings = std::vector<std::pair<std::string_view, int32_t>>;
  const auto trie = [&](bool normalized, bool with_special) {
    Strings strings;
    // Of two tokens that normalize to the same text the first one keeps it.
    for (size_t i = 0; i < tokens_.size(); ++i) {
      if (tokens_[i].normalized == normalized && (with_special || !tokens_[i].special)) {
        strings.emplace_back(spellings[i], static_cast<int32_t>(i));
      }
    }
    return ByteTrie(std::move(strings));
  };
  all_ = {trie(false, true), trie(true, true)};
  plain_ = {trie(false, false), trie(true, false)};
}

AddedTokens::Match AddedTokens::longest_match(const ByteTrie& trie, std::string_view text,
                                              size_t at) {
  Match match;
  uint32_t node = ByteTrie::kRoot;
  for (size_t next = at; next < text.size() && trie.step(node, text[next]); ++next) {
    if (trie.value(node) >= 0) match = {trie.value(node), next + 1 - at};
  }
  return match;
}

std::vector<TextSegment> AddedTokens::split(std::string_view text, Stage stage,
                                            bool parse_special) const {
  const Tries& tries = parse_special ? all_ : plain_;
  const ByteTrie& trie = stage == Stage::kRaw ? tries.raw : tries.normalized;
  std::vector<TextSegment> segments;
  size_t covered = 0;  // End of the last segment; a token that strips may reach behind `at`.
  for (size_t at = 0; at < text.size();) {
    const Match match = longest_match(trie, text, at);
    if (match.token < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(match.token)];
    size_t begin = at;
    size_t end = at + match.size;
    at = end;
    if (token.single_word && (word_ends_at(text, begin) || word_starts_at(text, end))) continue;
    if (token.lstrip) begin = white_space_before(text, begin, covered);
    if (token.rstrip) end = white_space_behind(text, end);
    if (covered < begin) segments.push_back({covered, begin, TextSegment::kText});
    segments.push_back({begin, end, token.id});
    covered = end;
  }
  if (covered < text.size()) segments.push_back({covered, text.size(), TextSegment::kText});
  return segments;
}

}  // namespace pare
