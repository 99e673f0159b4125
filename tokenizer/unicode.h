// UTF-8 and the few Unicode properties that a tokenizer asks for.
//
// Functions that walk text require valid UTF-8; replace_invalid_utf8 makes it so. All are pure and
// safe to call from several threads.
//
//   const std::string text = replace_invalid_utf8(bytes);
//   for (size_t at = 0; at < text.size();) {
//     const CodePoint point = code_point_at(text, at);
//     at += point.size;
//   }
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace pare {

struct CodePoint {
  char32_t value;
  size_t size;  ///< Bytes it takes in UTF-8, 1 to 4.
};

/// The code point that starts at byte `at`. REQUIRES: valid UTF-8, at < text.size().
CodePoint code_point_at(std::string_view text, size_t at);

/// The code point that ends before byte `end`. REQUIRES: valid UTF-8, 0 < end <= text.size().
CodePoint code_point_before(std::string_view text, size_t end);

/// Appends the UTF-8 form of `value`. REQUIRES: a Unicode scalar value.
void append_utf8(std::string& text, char32_t value);

/// A copy in which each maximal part of an ill-formed sequence became one U+FFFD (the Unicode
/// Standard, section 3.9, "U+FFFD Substitution of Maximal Subparts").
std::string replace_invalid_utf8(std::string_view bytes);

bool is_white_space(char32_t value);  ///< Property White_Space.
bool is_numeric(char32_t value);      ///< General category N*.
bool is_punctuation(char32_t value);  ///< ASCII punctuation (symbols like $ too) or category P*.
bool is_mark(char32_t value);         ///< General category M*.
bool is_nonspacing_mark(char32_t value);  ///< General category Mn.
bool is_other(char32_t value);            ///< General category Cc, Cf or Co.
bool is_word_character(char32_t value);   ///< Alphabetic, M*, Nd, Pc and the two joiners (UTS #18).

enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };

/// Unicode normalization (UAX #15). REQUIRES: valid UTF-8.
std::string normalize_unicode(std::string_view text, UnicodeForm form);

/// Each code point's full lower-case mapping, without context. REQUIRES: valid UTF-8.
std::string lowercase(std::string_view text);

/// Where the extended grapheme cluster (UAX #29) that starts at `at` ends. REQUIRES: valid UTF-8,
/// at < text.size().
size_t grapheme_end(std::string_view text, size_t at);

/// Text for one line of a message: quoted, control characters as \xNN, long text shortened.
std::string quoted_text(std::string_view text);

}  // namespace pare
