// Regular expressions that a model's files bring along: matched with a limit, since files are
// hostile and backtracking is exponential.
#pragma once

#include <string>

namespace pare {

/// Whether `before` + `pattern` + `after` (PCRE2) matches `text` from its first character on, not
/// necessarily to its end. Throws Error(kInputMalformed), beginning with `subject` and with the
/// pattern that the file has, when it is no regular expression or takes too long. Thread-safe.
bool pattern_matches(const std::string& pattern, const std::string& text,
                     const std::string& subject, const std::string& before = {},
                     const std::string& after = {});

}  // namespace pare
