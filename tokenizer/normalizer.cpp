#include "tokenizer/normalizer.h"

#include <algorithm>
#include <utility>

#include "tokenizer/byte_alphabet.h"

namespace pare {
namespace {

// Calls rewrite(value, result) for each code point, which appends what becomes of it.
template <typename Rewrite>
std::string map_code_points(std::string_view text, const Rewrite& rewrite) {
  std::string result;
  result.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    at += point.size;
    rewrite(point.value, result);
  }
  return result;
}

template <typename Drop>
std::string without(std::string_view text, const Drop& drop) {
  return map_code_points(text, [&](char32_t value, std::string& result) {
    if (!drop(value)) append_utf8(result, value);
  });
}

std::string_view strip(std::string_view text, bool left, bool right) {
  while (left && !text.empty()) {
    const CodePoint point = code_point_at(text, 0);
    if (!is_white_space(point.value)) break;
    text.remove_prefix(point.size);
  }
  while (right && !text.empty()) {
    const CodePoint point = code_point_before(text, text.size());
    if (!is_white_space(point.value)) break;
    text.remove_suffix(point.size);
  }
  return text;
}

// The rules of the NMT charsmaps that SentencePiece ships, without NFKC.
std::string nmt(std::string_view text) {
  const auto is_dropped = [](char32_t c) {
    return (c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F ||
           c == 0x8F || c == 0x9F;
  };
  const auto is_space = [](char32_t c) {
    return c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 ||
           (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
           c == 0xFEFF || c == 0xFFFD;
  };
  return map_code_points(text, [&](char32_t value, std::string& result) {
    if (!is_dropped(value)) append_utf8(result, is_space(value) ? U' ' : value);
  });
}

// The reference implementation asks for a whole grapheme cluster first and takes the shortest entry
// that it begins with, then goes character by character; ids depend on it.
std::string apply_charsmap(std::string_view text, const Charsmap& map) {
  constexpr size_t kLongestCluster = 6;
  std::string result;
  result.reserve(text.size());
  const auto append = [&](std::string_view part) {
    const Charsmap::Match match = map.shortest(part);
    if (match.size == 0) return false;
    result += match.replacement;
    return true;
  };
  const auto is_ascii = [&](size_t at) { return static_cast<uint8_t>(text[at]) < 0x80; };
  for (size_t at = 0; at < text.size();) {
    // Two ASCII characters are two clusters, but for "\r\n".
    const bool single =
        is_ascii(at) && text[at] != '\r' && (at + 1 == text.size() || is_ascii(at + 1));
    const size_t end = single ? at + 1 : grapheme_end(text, at);
    const std::string_view cluster = text.substr(at, end - at);
    at = end;
    if (cluster.size() < kLongestCluster && append(cluster)) continue;
    for (size_t i = 0; i < cluster.size();) {
      const std::string_view character = cluster.substr(i, code_point_at(cluster, i).size);
      i += character.size();
      if (!append(character)) result += character;
    }
  }
  return result;
}

bool is_chinese_character(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B81F) ||
         (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) ||
         (c >= 0x2F800 && c <= 0x2FA1F);
}

// Devlin et al. 2018, "BERT": the basic tokenizer's cleaning.
std::string bert(std::string text, const NormalizeBert& step) {
  const auto is_line_space = [](char32_t c) { return c == '\t' || c == '\n' || c == '\r'; };
  if (step.clean_text) {
    text = map_code_points(text, [&](char32_t c, std::string& result) {
      if (c == 0 || c == 0xFFFD || (is_other(c) && !is_line_space(c))) return;
      append_utf8(result, is_white_space(c) ? U' ' : c);
    });
  }
  if (step.handle_chinese_chars) {
    text = map_code_points(text, [](char32_t c, std::string& result) {
      const bool alone = is_chinese_character(c);
      if (alone) result += ' ';
      append_utf8(result, c);
      if (alone) result += ' ';
    });
  }
  if (step.strip_accents) {
    text = without(normalize_unicode(text, UnicodeForm::kNfd), is_nonspacing_mark);
  }
  return step.lowercase ? lowercase(text) : text;
}

}  // namespace

Normalizer::Normalizer(std::vector<NormalizerStep> steps, const std::string& origin)
    : steps_(std::move(steps)) {
  for (const NormalizerStep& step : steps_) {
    compiled_.emplace_back();
    if (const auto* replace = std::get_if<NormalizeReplace>(&step)) {
      compiled_.back().emplace<Replacement>(replace->pattern, replace->content, origin);
    } else if (const auto* map = std::get_if<NormalizePrecompiled>(&step)) {
      compiled_.back().emplace<Charsmap>(map->charsmap, origin);
    }
  }
}

std::string Normalizer::apply(std::string_view text, RegexScratch& scratch) const {
  std::string result(text);
  for (size_t i = 0; i < steps_.size(); ++i) {
    const NormalizerStep& step = steps_[i];
    if (const auto* unicode = std::get_if<NormalizeUnicode>(&step)) {
      result = normalize_unicode(result, unicode->form);
    } else if (std::holds_alternative<NormalizeLowercase>(step)) {
      result = lowercase(result);
    } else if (const auto* prepend = std::get_if<NormalizePrepend>(&step)) {
      if (!result.empty()) result.insert(0, prepend->text);
    } else if (const auto* replace = std::get_if<Replacement>(&compiled_[i])) {
      result = replace->apply(result, scratch);
    } else if (const auto* map = std::get_if<Charsmap>(&compiled_[i])) {
      result = apply_charsmap(result, *map);
    } else if (const auto* ends = std::get_if<NormalizeStrip>(&step)) {
      result = std::string(strip(result, ends->left, ends->right));
    } else if (std::holds_alternative<NormalizeStripAccents>(step)) {
      result = without(result, is_mark);
    } else if (std::holds_alternative<NormalizeNmt>(step)) {
      result = nmt(result);
    } else if (std::holds_alternative<NormalizeByteLevel>(step)) {
      std::string mapped;
      append_byte_characters(mapped, result);
      result = std::move(mapped);
    } else if (const auto* cleaning = std::get_if<NormalizeBert>(&step)) {
      result = bert(std::move(result), *cleaning);
    }
  }
  return result;
}

}  // namespace pare
