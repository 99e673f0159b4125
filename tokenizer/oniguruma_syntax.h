// Patterns of the Oniguruma library rewritten for PCRE2.
//
// tokenizer.json was written for Oniguruma (Ruby syntax, UTF-8). Most of it means the same to
// PCRE2 with UTF and UCP; this is where the two differ, and what is done about it:
//
//   \s \S            White_Space; PCRE2 adds U+180E             written out as ranges
//   \w \W \b \B      Alphabetic, M, Nd, Pc; PCRE2: L, N and _   written out
//   \d \h \v         Nd, a hexadecimal digit, U+000B            written out
//   \p{Han}          the script; PCRE2: the script extensions   \p{sc:Han}
//   \p{Letter}       long names of categories                   the short name
//   (?m:…)           "." matches newlines                       (?s:…)
//   x{,n}            {0,n}; PCRE2: literal                      {0,n}
//   \uHHHH                                                      \x{HHHH}
//   [a[bc]]          a class inside a class adds its members    [abc]
//   [a[^b]] [a&&b] x{n}+ x{n}? (?x) (*…)  mean something else   refused by name
//
// Stateless.
#pragma once

#include <string>
#include <string_view>

namespace pare {

/// The pattern for pcre2_compile with PCRE2_UTF, PCRE2_UCP and PCRE2_MULTILINE. `origin` is for
/// messages. Throws Error(kInputMalformed) naming the construct that is broken or not supported.
std::string oniguruma_to_pcre2(std::string_view pattern, const std::string& origin);

}  // namespace pare
