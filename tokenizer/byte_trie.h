// Which of many strings begin at a place of a text.
//
// A trie over bytes in one flat array, the children of a node side by side in order. Immutable and
// safe to use from several threads; about 12 bytes a node.
//
//   const ByteTrie trie({{"a", 7}, {"ab", 8}});
//   uint32_t node = ByteTrie::kRoot;
//   for (size_t i = at; i < text.size() && trie.step(node, text[i]); ++i) {
//     if (trie.value(node) >= 0) …  // text[at … i] is a string of the trie
//   }
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace pare {

class ByteTrie {
 public:
  static constexpr uint32_t kRoot = 0;

  ByteTrie() = default;

  /// Values are not negative. Of equal strings the first counts; empty ones match nothing.
  explicit ByteTrie(std::vector<std::pair<std::string_view, int32_t>> strings);

  bool empty() const { return nodes_.size() == 1; }

  /// Goes to the child by that byte, or returns false and leaves `node` as it was.
  bool step(uint32_t& node, char byte) const {
    const uint32_t next = child(node, static_cast<uint8_t>(byte));
    if (next == 0) return false;
    node = next;
    return true;
  }

  /// The value of the string that ends here, or −1.
  int32_t value(uint32_t node) const { return nodes_[node].value; }

 private:
  struct Node {
    uint32_t first_child = 0;
    uint16_t children = 0;
    uint8_t label = 0;
    int32_t value = -1;
  };
  uint32_t child(uint32_t node, uint8_t byte) const;

  std::vector<Node> nodes_{1};
  std::array<uint32_t, 256> first_{};  // Children of the root: every place of a text starts there.
};

}  // namespace pare
