// Classes of tokens by what they spell, to see where a format hurts.
//
//   TokenClasses classes(tokenizer);
//   kTokenClassNames[classes.of(id)];   // "word start"
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace pare {

inline constexpr std::array<std::string_view, 7> kTokenClassNames = {
    "word start",  "word continuation", "number", "punctuation",
    "white space", "other script",      "special"};

/// The class of the text of a token, an index into kTokenClassNames: by its first character after
/// one leading space. A letter is a word's start after a space and its continuation without; bytes
/// beyond ASCII are "other script".
size_t token_class(std::string_view text);

/// The classes of a vocabulary, each found when it is first asked for. Keeps a reference.
class TokenClasses {
 public:
  explicit TokenClasses(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  /// Ids outside of the vocabulary are "special".
  size_t of(int32_t id);

 private:
  const Tokenizer& tokenizer_;
  std::vector<int8_t> known_;  // −1: not asked for yet
};

}  // namespace pare
