#include "tools/plain_text.h"

#include <cstddef>
#include <cstdint>

namespace pare::tools {
namespace {

struct CodePoint {
  char32_t value = 0;
  size_t size = 0;  // 0: not UTF-8
};

// The first code point of a text that is not empty.
CodePoint decode(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const size_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || size > text.size()) return {};
  char32_t value = lead & (0x7fU >> size);
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    value = value << 6 | (byte(i) & 0x3fU);
  }
  const bool overlong = (size == 3 && value < 0x800) || (size == 4 && value < 0x10000);
  const bool surrogate = value >= 0xd800 && value <= 0xdfff;
  if (overlong || surrogate || value > 0x10ffff) return {};
  return {value, size};
}

bool is_within(char32_t value, char32_t first, char32_t last) {
  return first <= value && value <= last;
}

bool is_harmful(char32_t value) {
  return value < 0x20 || is_within(value, 0x7f, 0x9f) ||  // C0, DEL, C1
         value == 0x61c ||                                // Arabic letter mark
         is_within(value, 0x200b, 0x200f) ||              // zero width, marks of direction
         is_within(value, 0x2028, 0x202e) ||              // line ends, embeddings, overrides
         is_within(value, 0x2060, 0x206f) ||              // word joiner, isolates
         value == 0xfeff;                                 // byte order mark
}

}  // namespace

std::string plain_text(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const CodePoint point = decode(text);
    if (point.value == '\n' || point.value == '\r' || point.value == '\t') {
      result += ' ';
    } else if (point.size == 0 || is_harmful(point.value)) {
      result += '?';
    } else {
      result += text.substr(0, point.size);
    }
    text.remove_prefix(point.size == 0 ? 1 : point.size);
  }
  return result;
}

}  // namespace pare::tools
