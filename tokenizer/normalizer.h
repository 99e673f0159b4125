// Text normalization before tokens are looked for: the steps of tokenizer.json in order.
//
// Immutable and safe to use from several threads.
//
//   const Normalizer normalizer(file.normalizer, "tokenizer.json");
//   RegexScratch scratch;
//   const std::string text = normalizer.apply("e\u0301", scratch);
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/regex.h"
#include "tokenizer/tokenizer_file.h"

namespace pare {

class Normalizer {
 public:
  /// `origin` is for messages. Throws Error(kInputMalformed) on a broken pattern.
  Normalizer(std::vector<NormalizerStep> steps, const std::string& origin);

  /// REQUIRES: valid UTF-8.
  std::string apply(std::string_view text, RegexScratch& scratch) const;

 private:
  std::vector<NormalizerStep> steps_;
  std::vector<std::optional<Regex>> regexes_;  // Of the Replace steps, by the step's number.
};

}  // namespace pare
