// Replaces what a pattern matches, as normalizers and decoders of tokenizer.json do.
//
// Immutable and safe to use from several threads; each thread brings its own RegexScratch.
//
//   const Replacement replacement({" ", /*is_regex=*/false}, "▁", "tokenizer.json");
//   const std::string text = replacement.apply("a b", scratch);  // "a▁b"
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "tokenizer/regex.h"
#include "tokenizer/tokenizer_file.h"

namespace pare {

class Replacement {
 public:
  /// `origin` is for messages. Throws Error(kInputMalformed) on a broken pattern.
  Replacement(const TextPattern& pattern, std::string content, const std::string& origin);

  /// REQUIRES: valid UTF-8.
  std::string apply(std::string_view text, RegexScratch& scratch) const;

 private:
  std::string literal_;  // Not empty: what to look for without a regular expression.
  std::optional<Regex> regex_;
  std::string content_;
};

}  // namespace pare
