#include "tests/tokenizer/random_text.h"

#include <string_view>

#include "tokenizer/unicode.h"

namespace pare {

std::string random_text(std::mt19937_64& random, size_t length) {
  constexpr std::u32string_view kUsual =
      U"aehlo HELLO  \n\r\t'.,!?-_<>/s0123456789 "
      U"éß日本語\u0301\u00A0\u2003½²🙂\u200D\u180E";
  std::string text;
  for (size_t i = 0; i < length; ++i) {
    char32_t value = kUsual[random() % kUsual.size()];
    if (random() % 8 == 0) {
      do {
        value = static_cast<char32_t>(random() % 0x110000);
      } while ((value >= 0xD800 && value <= 0xDFFF) || value == 0x2581);
    }
    append_utf8(text, value);
  }
  return text;
}

}  // namespace pare
