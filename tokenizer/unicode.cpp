#include "tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <vector>

#include "pare/error.h"

namespace pare {
namespace {

uint8_t byte_at(std::string_view text, size_t at) { return static_cast<uint8_t>(text[at]); }

bool is_continuation(uint8_t byte) { return (byte & 0xC0U) == 0x80U; }

size_t size_from_lead(uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead < 0xE0) return 2;
  return lead < 0xF0 ? 3 : 4;
}

struct Sequence {
  size_t size;  // Bytes of the well-formed sequence, or of the maximal part of an ill-formed one.
  bool valid;
};

// Table 3-7 of the Unicode Standard: only the second byte's range depends on the first.
Sequence sequence_at(std::string_view bytes, size_t at) {
  const uint8_t lead = byte_at(bytes, at);
  if (lead < 0x80) return {1, true};
  if (lead < 0xC2 || lead > 0xF4) return {1, false};
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  const size_t size = size_from_lead(lead);
  for (size_t i = 1; i < size; ++i) {
    if (at + i == bytes.size()) return {i, false};
    const uint8_t byte = byte_at(bytes, at + i);
    if (byte < low || byte > high) return {i, false};
    low = 0x80;
    high = 0xBF;
  }
  return {size, true};
}

utf8proc_category_t category(char32_t value) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(value));
}

bool is_ascii(std::string_view text) {
  for (const char c : text) {
    if (static_cast<uint8_t>(c) >= 0x80) return false;
  }
  return true;
}

utf8proc_propval_t combining_class(char32_t value) {
  return utf8proc_get_property(static_cast<utf8proc_int32_t>(value))->combining_class;
}

// Puts long runs of combining marks into canonical order, which changes no normalization form.
// utf8proc orders them by insertion: a run of 40,000 would take seconds, of a million hours.
std::string order_long_runs(std::string_view text) {
  constexpr size_t kLong = 64;
  std::string result;
  result.reserve(text.size());
  std::vector<char32_t> run;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    run.clear();
    while (at < text.size()) {
      const CodePoint point = code_point_at(text, at);
      if (combining_class(point.value) == 0) break;
      run.push_back(point.value);
      at += point.size;
    }
    if (run.size() >= kLong) {
      std::stable_sort(run.begin(), run.end(), [](char32_t left, char32_t right) {
        return combining_class(left) < combining_class(right);
      });
      for (const char32_t value : run) append_utf8(result, value);
    } else {
      result.append(text, begin, at - begin);
    }
    if (at < text.size()) {
      const size_t size = code_point_at(text, at).size;
      result.append(text, at, size);
      at += size;
    }
  }
  return result;
}

}  // namespace

CodePoint code_point_at(std::string_view text, size_t at) {
  const uint8_t lead = byte_at(text, at);
  const size_t size = size_from_lead(lead);
  if (size == 1) return {lead, 1};
  char32_t value = lead & (0xFFU >> (size + 1));
  for (size_t i = 1; i < size; ++i) value = (value << 6U) | (byte_at(text, at + i) & 0x3FU);
  return {value, size};
}

CodePoint code_point_before(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (is_continuation(byte_at(text, begin))) --begin;
  return code_point_at(text, begin);
}

void append_utf8(std::string& text, char32_t value) {
  std::array<utf8proc_uint8_t, 4> buffer{};
  const auto size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(value), buffer.data());
  for (utf8proc_ssize_t i = 0; i < size; ++i) {
    text += static_cast<char>(buffer[static_cast<size_t>(i)]);
  }
}

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    const Sequence sequence = sequence_at(bytes, at);
    if (sequence.valid) {
      text.append(bytes, at, sequence.size);
    } else {
      append_utf8(text, 0xFFFD);
    }
    at += sequence.size;
  }
  return text;
}

bool is_white_space(char32_t value) {
  return (value >= 0x09 && value <= 0x0D) || value == 0x20 || value == 0x85 || value == 0xA0 ||
         value == 0x1680 || (value >= 0x2000 && value <= 0x200A) || value == 0x2028 ||
         value == 0x2029 || value == 0x202F || value == 0x205F || value == 0x3000;
}

bool is_numeric(char32_t value) {
  const auto kind = category(value);
  return kind >= UTF8PROC_CATEGORY_ND && kind <= UTF8PROC_CATEGORY_NO;
}

bool is_punctuation(char32_t value) {
  if (value < 0x80) {
    return (value >= '!' && value <= '/') || (value >= ':' && value <= '@') ||
           (value >= '[' && value <= '`') || (value >= '{' && value <= '~');
  }
  const auto kind = category(value);
  return kind >= UTF8PROC_CATEGORY_PC && kind <= UTF8PROC_CATEGORY_PO;
}

bool is_mark(char32_t value) {
  const auto kind = category(value);
  return kind >= UTF8PROC_CATEGORY_MN && kind <= UTF8PROC_CATEGORY_ME;
}

bool is_nonspacing_mark(char32_t value) { return category(value) == UTF8PROC_CATEGORY_MN; }

bool is_other(char32_t value) {
  const auto kind = category(value);
  return kind == UTF8PROC_CATEGORY_CC || kind == UTF8PROC_CATEGORY_CF ||
         kind == UTF8PROC_CATEGORY_CO;
}

bool is_word_character(char32_t value) {
  switch (category(value)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    case UTF8PROC_CATEGORY_SO:  // The circled and squared letters have Other_Alphabetic.
      return (value >= 0x24B6 && value <= 0x24E9) || (value >= 0x1F130 && value <= 0x1F149) ||
             (value >= 0x1F150 && value <= 0x1F169) || (value >= 0x1F170 && value <= 0x1F189);
    default:
      return value == 0x200C || value == 0x200D;
  }
}

std::string normalize_unicode(std::string_view text, UnicodeForm form) {
  if (is_ascii(text)) return std::string(text);
  int options = UTF8PROC_STABLE;
  const bool compose = form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc;
  options |= compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd) options |= UTF8PROC_COMPAT;
  const std::string ordered = order_long_runs(text);
  utf8proc_uint8_t* mapped = nullptr;
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(ordered.data()),
                                 static_cast<utf8proc_ssize_t>(ordered.size()), &mapped,
                                 static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
  if (size < 0) {
    const auto code = size == UTF8PROC_ERROR_NOMEM ? ErrorCode::kLimitExceeded  //
                                                   : ErrorCode::kInternal;
    throw Error(code, std::string("Unicode normalization of ") + std::to_string(text.size()) +
                          " bytes failed: " + utf8proc_errmsg(size));
  }
  return {reinterpret_cast<const char*>(mapped), static_cast<size_t>(size)};
}

std::string lowercase(std::string_view text) {
  std::string lower;
  lower.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    at += point.size;
    if (point.value == 0x130) {
      // The one code point whose lower case is two (SpecialCasing.txt); utf8proc knows only the
      // simple mapping.
      lower += "i\xCC\x87";
    } else {
      append_utf8(lower, static_cast<char32_t>(
                             utf8proc_tolower(static_cast<utf8proc_int32_t>(point.value))));
    }
  }
  return lower;
}

size_t grapheme_end(std::string_view text, size_t at) {
  CodePoint point = code_point_at(text, at);
  size_t end = at + point.size;
  utf8proc_int32_t state = 0;
  while (end < text.size()) {
    const CodePoint next = code_point_at(text, end);
    if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(point.value),
                                         static_cast<utf8proc_int32_t>(next.value), &state)) {
      break;
    }
    point = next;
    end += next.size;
  }
  return end;
}

std::string quoted_text(std::string_view text) {
  constexpr size_t kLongest = 80;
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string valid = replace_invalid_utf8(text.substr(0, kLongest + 4));
  bool shortened = text.size() > kLongest;
  if (valid.size() > kLongest) {
    size_t end = kLongest;
    while (is_continuation(byte_at(valid, end))) --end;
    valid.resize(end);
    shortened = true;
  }
  std::string result = "\"";
  for (const char c : valid) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte < 0x20 || byte == 0x7F) {
      result += "\\x";
      result += kHex[byte >> 4U];
      result += kHex[byte & 15U];
    } else {
      result += c;
    }
  }
  return result + (shortened ? "…\"" : "\"");
}

}  // namespace pare
