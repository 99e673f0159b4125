#include "eval/token_class.h"

#include <string>

namespace pare {
namespace {

enum Class : size_t {
  kWordStart,
  kWordContinuation,
  kNumber,
  kPunctuation,
  kWhiteSpace,
  kOtherScript,
  kSpecial
};

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

}  // namespace

size_t token_class(std::string_view text) {
  const bool spaced = text.starts_with(' ');
  if (spaced) text.remove_prefix(1);
  if (text.empty()) return spaced ? kWhiteSpace : kSpecial;
  const char first = text.front();
  if (is_space(first)) return kWhiteSpace;
  if (is_digit(first)) return kNumber;
  if (is_letter(first)) return spaced ? kWordStart : kWordContinuation;
  return (static_cast<unsigned char>(first) & 0x80U) != 0 ? kOtherScript : kPunctuation;
}

size_t TokenClasses::of(int32_t id) {
  if (id < 0 || id >= tokenizer_.vocab_size()) return kSpecial;
  if (known_.empty()) known_.assign(static_cast<size_t>(tokenizer_.vocab_size()), -1);
  int8_t& known = known_[static_cast<size_t>(id)];
  if (known < 0) {
    known = static_cast<int8_t>(token_class(tokenizer_.token_text(id)));
  }
  return static_cast<size_t>(known);
}

}  // namespace pare
