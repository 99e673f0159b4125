#include "tests/tokenizer/small_charsmap.h"

#include <bit>
#include <set>

namespace pare {
namespace {

constexpr uint32_t kBlock = 256;

class DoubleArray {
 public:
  explicit DoubleArray(const std::map<std::string, uint32_t>& values) : values_(values) {
    reserve(0);
    used_.insert(0);
    place(0, "");
  }
  const std::vector<uint32_t>& units() const { return units_; }

 private:
  void reserve(uint32_t index) {
    if (index >= units_.size()) units_.resize((index / kBlock + 1) * kBlock, 0);
  }

  // Puts the children of the node at `index`, which spells `prefix`.
  void place(uint32_t index, const std::string& prefix) {
    std::set<uint8_t> labels;
    for (auto entry = values_.lower_bound(prefix); entry != values_.end(); ++entry) {
      if (!entry->first.starts_with(prefix)) break;
      if (entry->first.size() > prefix.size()) {
        labels.insert(static_cast<uint8_t>(entry->first[prefix.size()]));
      }
    }
    const bool ends = values_.contains(prefix);
    uint32_t base = 1;
    const auto fits = [&] {
      if (ends && used_.contains(base)) return false;
      for (const uint8_t label : labels) {
        if (used_.contains(base ^ label)) return false;
      }
      return true;
    };
    while (!fits()) ++base;
    reserve(base | 0xFFU);
    units_[index] |= (index ^ base) << 10U;
    if (ends) {
      units_[index] |= 1U << 8U;
      units_[base] = values_.at(prefix) | (1U << 31U);
      used_.insert(base);
    }
    for (const uint8_t label : labels) {
      units_[base ^ label] = label;
      used_.insert(base ^ label);
    }
    for (const uint8_t label : labels) place(base ^ label, prefix + static_cast<char>(label));
  }

  const std::map<std::string, uint32_t>& values_;
  std::vector<uint32_t> units_;
  std::set<uint32_t> used_;
};

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7U) bytes += static_cast<char>(value | 0x80U);
  return bytes + static_cast<char>(value);
}

std::string little_endian(uint32_t value) {
  std::string bytes;
  for (unsigned shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(value >> shift);
  return bytes;
}

}  // namespace

std::string make_charsmap(const std::map<std::string, std::string>& replacements) {
  std::map<std::string, uint32_t> values;
  std::string text;
  for (const auto& [key, replacement] : replacements) {
    values[key] = static_cast<uint32_t>(text.size());
    text += replacement + '\0';
  }
  const DoubleArray array(values);
  std::string bytes = little_endian(static_cast<uint32_t>(array.units().size() * 4));
  for (const uint32_t unit : array.units()) bytes += little_endian(unit);
  return bytes + text;
}

std::string varint_field(uint64_t number, uint64_t value) {
  return varint(number << 3U) + varint(value);
}

std::string bytes_field(uint64_t number, std::string_view bytes) {
  return varint(number << 3U | 2U) + varint(bytes.size()) + std::string(bytes);
}

std::string make_piece(const ModelPiece& piece) {
  const std::string score =
      varint(2U << 3U | 5U) + little_endian(std::bit_cast<uint32_t>(piece.score));
  return bytes_field(
      1, bytes_field(1, piece.text) + score + varint_field(3, static_cast<uint64_t>(piece.type)));
}

std::string make_sentencepiece(const ModelSpec& spec) {
  std::string bytes;
  for (const ModelPiece& piece : spec.pieces) bytes += make_piece(piece);
  bytes += bytes_field(2, varint_field(3, static_cast<uint64_t>(spec.kind)) +
                              varint_field(24, spec.whitespace_as_suffix ? 1 : 0) +
                              varint_field(35, spec.byte_fallback ? 1 : 0));
  bytes += bytes_field(3, bytes_field(2, spec.charsmap) +
                              varint_field(3, spec.add_dummy_prefix ? 1 : 0) +
                              varint_field(4, spec.remove_extra_whitespaces ? 1 : 0));
  return bytes;
}

}  // namespace pare
