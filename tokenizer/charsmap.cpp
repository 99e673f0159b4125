#include "tokenizer/charsmap.h"

#include <array>

#include "pare/error.h"
#include "tokenizer/unicode.h"

namespace pare {
namespace {

constexpr size_t kUnitBytes = 4;

uint32_t little_endian(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = kUnitBytes; i-- > 0;) value = (value << 8U) | static_cast<uint8_t>(bytes[at + i]);
  return value;
}

constexpr uint32_t label_of(uint32_t unit) { return unit & ((1U << 31U) | 0xFFU); }
constexpr bool has_value(uint32_t unit) { return ((unit >> 8U) & 1U) != 0; }
constexpr uint32_t value_of(uint32_t unit) { return unit & ((1U << 31U) - 1); }
constexpr uint32_t offset_of(uint32_t unit) { return (unit >> 10U) << ((unit & (1U << 9U)) >> 6U); }

constexpr int kNoDigit = 64;

constexpr std::array<uint8_t, 256> base64_digits() {
  std::array<uint8_t, 256> digits{};
  for (uint8_t& digit : digits) digit = kNoDigit;
  uint8_t next = 0;
  for (char c = 'A'; c <= 'Z'; ++c) digits[static_cast<uint8_t>(c)] = next++;
  for (char c = 'a'; c <= 'z'; ++c) digits[static_cast<uint8_t>(c)] = next++;
  for (char c = '0'; c <= '9'; ++c) digits[static_cast<uint8_t>(c)] = next++;
  digits[static_cast<uint8_t>('+')] = next++;
  digits[static_cast<uint8_t>('/')] = next;
  return digits;
}

}  // namespace

Charsmap::Charsmap(std::string_view bytes, const std::string& origin) : origin_(origin) {
  if (bytes.empty()) return;
  if (bytes.size() < kUnitBytes) fail("is " + std::to_string(bytes.size()) + " bytes long");
  const size_t trie = little_endian(bytes, 0);
  const size_t room = bytes.size() - kUnitBytes;
  if (trie == 0 || trie % kUnitBytes != 0 || trie > room) {
    fail("says that its trie takes " + std::to_string(trie) +
         " bytes; expected a multiple of 4, from 4 to the " + std::to_string(room) +
         " that there are");
  }
  units_.reserve(trie / kUnitBytes);
  for (size_t at = 0; at < trie; at += kUnitBytes) {
    units_.push_back(little_endian(bytes, kUnitBytes + at));
  }
  replacements_ = bytes.substr(kUnitBytes + trie);
  if (replace_invalid_utf8(replacements_) != replacements_) fail("holds text that is not UTF-8");
}

void Charsmap::fail(const std::string& what) const {
  throw Error(ErrorCode::kInputMalformed,
              origin_ + ": precompiled_charsmap " + what + " (damaged file?)");
}

uint32_t Charsmap::unit(size_t index) const {
  if (index >= units_.size()) {
    fail("leads to unit " + std::to_string(index) + " of " + std::to_string(units_.size()));
  }
  return units_[index];
}

Charsmap::Match Charsmap::match(std::string_view text, bool first_only) const {
  Match result;
  if (units_.empty()) return result;
  size_t node = offset_of(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    if (byte == 0) break;  // Label 0 marks values.
    node ^= byte;
    // Labels of bytes that no entry has may lie beyond the array.
    if (node >= units_.size() || label_of(units_[node]) != byte) break;
    const uint32_t here = units_[node];
    node ^= offset_of(here);
    if (!has_value(here)) continue;
    const size_t begin = value_of(unit(node));
    if (begin >= replacements_.size() ||
        (static_cast<uint8_t>(replacements_[begin]) & 0xC0U) == 0x80U) {
      fail("replaces " + quoted_text(text.substr(0, i + 1)) + " by what is at byte " +
           std::to_string(begin) + " of " + std::to_string(replacements_.size()) +
           ", where no text begins");
    }
    const size_t end = std::min(replacements_.find('\0', begin), replacements_.size());
    result = {i + 1, std::string_view(replacements_).substr(begin, end - begin)};
    if (first_only) break;
  }
  return result;
}

bool decode_base64(std::string_view text, std::string& bytes) {
  constexpr std::array<uint8_t, 256> kDigits = base64_digits();
  if (text.size() % 4 != 0) return false;
  size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
  bytes.clear();
  bytes.reserve(text.size() / 4 * 3);
  uint32_t group = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool padded = i >= text.size() - padding;
    const uint8_t digit = padded ? uint8_t{0} : kDigits[static_cast<uint8_t>(text[i])];
    if (digit == kNoDigit) return false;
    group = (group << 6U) | digit;
    if (i % 4 == 3) {
      for (const unsigned shift : {16U, 8U, 0U})
        bytes += static_cast<char>((group >> shift) & 0xFFU);
      group = 0;
    }
  }
  bytes.resize(bytes.size() - padding);
  return true;
}

}  // namespace pare
