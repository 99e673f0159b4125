// Text normalization before tokens are looked for: the steps of tokenizer.json in order.
//
// Immutable and safe to use from several threads.
//
//   const Normalizer normalizer(file.normalizer, "tokenizer.json");
//   RegexScratch scratch;
//   const std::string text = normalizer.apply("e\u0301", scratch);
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tokenizer/charsmap.h"
#include "tokenizer/regex.h"
#include "tokenizer/replacement.h"
#include "tokenizer/tokenizer_file.h"

namespace pare {

class Normalizer {
 public:
  /// `origin` is for messages. Throws Error(kInputMalformed) on a broken pattern or charsmap.
  Normalizer(std::vector<NormalizerStep> steps, const std::string& origin);

  /// REQUIRES: valid UTF-8. Throws Error(kInputMalformed) where a charsmap turns out to be damaged.
  std::string apply(std::string_view text, RegexScratch& scratch) const;

 private:
  std::vector<NormalizerStep> steps_;
  // What the steps were compiled to, by the step's number.
  std::vector<std::variant<std::monostate, Replacement, Charsmap>> compiled_;
};

}  // namespace pare
