#include "tokenizer/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "tokenizer/unicode.h"

namespace pare {
namespace {

constexpr size_t kBytes = 256;
constexpr size_t kCharacters = 256 + 68;

constexpr bool stands_for_itself(size_t byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<uint16_t, kBytes> character{};
  std::array<int16_t, kCharacters> byte{};  // −1 where the character is not of the alphabet.
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  for (auto& byte : alphabet.byte) byte = -1;
  size_t next = kBytes;
  for (size_t byte = 0; byte < kBytes; ++byte) {
    const size_t character = stands_for_itself(byte) ? byte : next++;
    alphabet.character[byte] = static_cast<uint16_t>(character);
    alphabet.byte[character] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

void append_byte_characters(std::string& text, std::string_view bytes) {
  for (const char c : bytes) {
    const uint16_t character = kAlphabet.character[static_cast<uint8_t>(c)];
    if (character < 0x80) {
      text += static_cast<char>(character);
    } else {  // All others are below U+0800: two bytes.
      text += static_cast<char>(0xC0 | (character >> 6));
      text += static_cast<char>(0x80 | (character & 0x3F));
    }
  }
}

bool append_character_bytes(std::string& bytes, std::string_view text) {
  const size_t before = bytes.size();
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    const int byte = point.value < kCharacters ? kAlphabet.byte[point.value] : -1;
    if (byte < 0) {
      bytes.resize(before);
      return false;
    }
    bytes += static_cast<char>(byte);
    at += point.size;
  }
  return true;
}

int byte_of_token(std::string_view token) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  constexpr size_t kSize = 6;
  if (token.size() != kSize || !token.starts_with("<0x") || token.back() != '>') return -1;
  const size_t high = kDigits.find(token[3]);
  const size_t low = kDigits.find(token[4]);
  if (high == std::string_view::npos || low == std::string_view::npos) return -1;
  return static_cast<int>(high * 16 + low);
}

}  // namespace pare
