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

uint32_t child_of(const std::vector<std::pair<uint8_t, uint32_t>>& children, uint8_t byte) {
  const auto found =
      std::lower_bound(children.begin(), children.end(), byte,
                       [](const auto& child, uint8_t wanted) { return child.first < wanted; });
  return found != children.end() && found->first == byte ? found->second : 0;
}

}  // namespace

void AddedTokens::Trie::insert(std::string_view content, int32_t token) {
  uint32_t node = 0;
  for (const char c : content) {
    const auto byte = static_cast<uint8_t>(c);
    uint32_t next = child_of(nodes[node].children, byte);
    if (next == 0) {
      next = static_cast<uint32_t>(nodes.size());
      auto& children = nodes[node].children;
      const auto place =
          std::lower_bound(children.begin(), children.end(), std::pair<uint8_t, uint32_t>{byte, 0});
      children.insert(place, {byte, next});
      if (node == 0) first[byte] = next;
      nodes.emplace_back();
    }
    node = next;
  }
  // Two tokens that normalize to the same text: the first one keeps it.
  if (node != 0 && nodes[node].token < 0) nodes[node].token = token;
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer)
    : tokens_(std::move(tokens)) {
  std::stable_partition(tokens_.begin(), tokens_.end(),
                        [](const AddedToken& token) { return token.special; });
  RegexScratch scratch;
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const AddedToken& token = tokens_[i];
    if (token.normalized) {
      normalized_.insert(normalizer.apply(token.content, scratch), static_cast<int32_t>(i));
    } else {
      raw_.insert(token.content, static_cast<int32_t>(i));
    }
  }
}

AddedTokens::Match AddedTokens::longest_match(const Trie& trie, std::string_view text, size_t at) {
  Match match;
  uint32_t node = trie.first[static_cast<uint8_t>(text[at])];
  for (size_t next = at + 1; node != 0; ++next) {
    if (trie.nodes[node].token >= 0) match = {trie.nodes[node].token, next - at};
    if (next == text.size()) break;
    node = child_of(trie.nodes[node].children, static_cast<uint8_t>(text[next]));
  }
  return match;
}

std::vector<TextSegment> AddedTokens::split(std::string_view text, Stage stage) const {
  const Trie& trie = stage == Stage::kRaw ? raw_ : normalized_;
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
