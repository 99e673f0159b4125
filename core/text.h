// Small questions about bytes that are meant to be text.
//
// Pure functions; safe from any thread.
//
//   if (!is_utf8(name)) …
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace pare {

/// Bytes of the well-formed UTF-8 sequence at the beginning of `text`, or 0 where there is none:
/// Unicode 15, table 3-7, which has neither overlong forms nor surrogates. REQUIRES: not empty.
size_t utf8_sequence_size(std::string_view text) noexcept;

bool is_utf8(std::string_view text) noexcept;

/// `text` with A … Z as a … z, whatever the locale.
std::string lower_ascii(std::string text);

/// "a, b, c" of names; of more than eight, the first eight and how many more there are.
std::string shown_names(const std::vector<std::string>& names);

}  // namespace pare
