#include "tokenizer/pre_tokenizer.h"

#include <algorithm>

#include "tokenizer/byte_alphabet.h"
#include "tokenizer/unicode.h"

namespace pare {
namespace {

// GPT-2's pattern (Radford et al. 2019), which ByteLevel uses unless told otherwise.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Each character with the property is a match of its own.
void split_characters(std::string_view text, bool (*has_property)(char32_t),
                      std::vector<MatchSpan>& spans) {
  size_t covered = 0;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    if (has_property(point.value)) {
      if (covered < at) spans.push_back({covered, at, false});
      covered = at + point.size;
      spans.push_back({at, covered, true});
    }
    at += point.size;
  }
  if (covered < text.size()) spans.push_back({covered, text.size(), false});
}

// Joins neighbours, or drops them, in place; afterwards every span is a piece.
void apply_behavior(SplitBehavior behavior, std::vector<MatchSpan>& spans) {
  std::vector<MatchSpan> pieces;
  pieces.reserve(spans.size());
  switch (behavior) {
    case SplitBehavior::kIsolated:
      return;
    case SplitBehavior::kRemoved:
      std::erase_if(spans, [](const MatchSpan& span) { return span.is_match; });
      return;
    case SplitBehavior::kContiguous:
      for (const MatchSpan& span : spans) {
        if (!pieces.empty() && pieces.back().is_match == span.is_match) {
          pieces.back().end = span.end;
        } else {
          pieces.push_back(span);
        }
      }
      break;
    case SplitBehavior::kMergedWithPrevious:
      // Only one match joins: the next of a run stands alone.
      for (size_t i = 0; i < spans.size(); ++i) {
        if (i > 0 && spans[i].is_match && !spans[i - 1].is_match) {
          pieces.back().end = spans[i].end;
        } else {
          pieces.push_back(spans[i]);
        }
      }
      break;
    case SplitBehavior::kMergedWithNext:
      for (size_t i = spans.size(); i-- > 0;) {
        if (i + 1 < spans.size() && spans[i].is_match && !spans[i + 1].is_match) {
          pieces.back().begin = spans[i].begin;
        } else {
          pieces.push_back(spans[i]);
        }
      }
      std::reverse(pieces.begin(), pieces.end());
      break;
  }
  spans = std::move(pieces);
}

// Runs `cut` on every piece; it fills the spans of one.
template <typename Cut>
void cut_pieces(PieceList& list, const Cut& cut) {
  std::vector<std::pair<size_t, size_t>> bounds;
  bounds.reserve(list.bounds.size());
  std::vector<MatchSpan> spans;
  for (size_t i = 0; i < list.bounds.size(); ++i) {
    const size_t start = list.bounds[i].first;
    spans.clear();
    cut(list.piece(i), spans);
    for (const MatchSpan& span : spans) {
      if (span.begin < span.end) bounds.emplace_back(start + span.begin, start + span.end);
    }
  }
  list.bounds = std::move(bounds);
}

PieceList byte_level(const PieceList& list, bool add_prefix_space, const Regex* regex,
                     RegexScratch& scratch) {
  PieceList result;
  result.text.reserve(list.text.size() + list.text.size() / 4);
  std::vector<MatchSpan> spans;
  std::string prefixed;
  for (size_t i = 0; i < list.bounds.size(); ++i) {
    std::string_view piece = list.piece(i);
    if (add_prefix_space && !piece.starts_with(' ')) {
      prefixed.assign(" ").append(piece);
      piece = prefixed;
    }
    spans.clear();
    if (regex != nullptr) {
      regex->split(piece, scratch, spans);
    } else {
      spans.push_back({0, piece.size(), false});
    }
    for (const MatchSpan& span : spans) {
      if (span.begin == span.end) continue;
      const size_t begin = result.text.size();
      append_byte_characters(result.text, piece.substr(span.begin, span.end - span.begin));
      result.bounds.emplace_back(begin, result.text.size());
    }
  }
  return result;
}

PieceList metaspace(const PieceList& list, const SplitMetaspace& step, bool is_first) {
  PieceList result;
  result.text.reserve(list.text.size() + list.text.size() / 2);
  const std::string& mark = step.replacement;
  for (size_t i = 0; i < list.bounds.size(); ++i) {
    const std::string_view piece = list.piece(i);
    const bool prepend =
        step.scheme == PrependScheme::kAlways ||
        (step.scheme == PrependScheme::kFirst && is_first && list.bounds[i].first == 0);
    const size_t begin = result.text.size();
    if (prepend && !piece.starts_with(mark) && !piece.starts_with(' ')) result.text += mark;
    for (size_t at = 0; at < piece.size();) {
      const size_t space = std::min(piece.find(' ', at), piece.size());
      result.text.append(piece, at, space - at);
      if (space < piece.size()) result.text += mark;
      at = space + 1;
    }
    if (!step.split) {
      result.bounds.emplace_back(begin, result.text.size());
      continue;
    }
    // Every mark begins a piece.
    size_t from = begin;
    for (size_t next = result.text.find(mark, begin + 1); next != std::string::npos;
         next = result.text.find(mark, next + mark.size())) {
      if (next == from) continue;
      result.bounds.emplace_back(from, next);
      from = next;
    }
    result.bounds.emplace_back(from, result.text.size());
  }
  return result;
}

}  // namespace

PreTokenizer::PreTokenizer(std::vector<PreTokenizerStep> steps, const std::string& origin)
    : steps_(std::move(steps)) {
  for (const PreTokenizerStep& step : steps_) {
    regexes_.emplace_back();
    if (const auto* split = std::get_if<SplitOnPattern>(&step)) {
      const auto kind = split->pattern.is_regex ? Regex::Kind::kPattern : Regex::Kind::kLiteral;
      regexes_.back().emplace(split->pattern.text, kind, origin);
    } else if (const auto* bytes = std::get_if<SplitByteLevel>(&step)) {
      if (bytes->use_regex) {
        regexes_.back().emplace(kGpt2Pattern, Regex::Kind::kPattern, origin);
      }
    }
  }
}

PieceList PreTokenizer::split(std::string text, RegexScratch& scratch, bool is_first) const {
  PieceList list;
  list.text = std::move(text);
  if (!list.text.empty()) list.bounds.emplace_back(0, list.text.size());
  for (size_t i = 0; i < steps_.size(); ++i) {
    const PreTokenizerStep& step = steps_[i];
    if (const auto* bytes = std::get_if<SplitByteLevel>(&step)) {
      list =
          byte_level(list, bytes->add_prefix_space, regexes_[i] ? &*regexes_[i] : nullptr, scratch);
    } else if (const auto* split = std::get_if<SplitOnPattern>(&step)) {
      cut_pieces(list, [&](std::string_view piece, std::vector<MatchSpan>& spans) {
        regexes_[i]->split(piece, scratch, spans);
        if (split->invert) {
          for (MatchSpan& span : spans) span.is_match = !span.is_match;
        }
        apply_behavior(split->behavior, spans);
      });
    } else if (const auto* digits = std::get_if<SplitOnDigits>(&step)) {
      cut_pieces(list, [&](std::string_view piece, std::vector<MatchSpan>& spans) {
        split_characters(piece, is_numeric, spans);
        apply_behavior(digits->individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous,
                       spans);
      });
    } else if (const auto* punctuation = std::get_if<SplitOnPunctuation>(&step)) {
      cut_pieces(list, [&](std::string_view piece, std::vector<MatchSpan>& spans) {
        split_characters(piece, is_punctuation, spans);
        apply_behavior(punctuation->behavior, spans);
      });
    } else if (std::holds_alternative<SplitOnWhiteSpace>(step)) {
      cut_pieces(list, [&](std::string_view piece, std::vector<MatchSpan>& spans) {
        split_characters(piece, is_white_space, spans);
        apply_behavior(SplitBehavior::kRemoved, spans);
      });
    } else if (const auto* spaces = std::get_if<SplitMetaspace>(&step)) {
      list = metaspace(list, *spaces, is_first);
    }
  }
  return list;
}

}  // namespace pare
