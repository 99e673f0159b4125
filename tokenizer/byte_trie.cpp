#include "tokenizer/byte_trie.h"

#include <algorithm>

namespace pare {

ByteTrie::ByteTrie(std::vector<std::pair<std::string_view, int32_t>> strings) {
  std::stable_sort(strings.begin(), strings.end(),
                   [](const auto& left, const auto& right) { return left.first < right.first; });
  // Breadth first, so that the children of a node are made one after another.
  struct Range {
    uint32_t node;
    size_t begin;
    size_t end;    // Strings [begin, end) pass through the node,
    size_t depth;  // which is this many bytes deep.
  };
  std::vector<Range> level{{kRoot, 0, strings.size(), 0}};
  std::vector<Range> deeper;
  while (!level.empty()) {
    deeper.clear();
    for (Range range : level) {
      if (range.begin < range.end && strings[range.begin].first.size() == range.depth) {
        if (range.node != kRoot) nodes_[range.node].value = strings[range.begin].second;
        while (range.begin < range.end && strings[range.begin].first.size() == range.depth) {
          ++range.begin;
        }
      }
      nodes_[range.node].first_child = static_cast<uint32_t>(nodes_.size());
      for (size_t begin = range.begin; begin < range.end;) {
        const char byte = strings[begin].first[range.depth];
        size_t end = begin + 1;
        while (end < range.end && strings[end].first[range.depth] == byte) ++end;
        deeper.push_back({static_cast<uint32_t>(nodes_.size()), begin, end, range.depth + 1});
        ++nodes_[range.node].children;
        nodes_.emplace_back().label = static_cast<uint8_t>(byte);
        begin = end;
      }
    }
    std::swap(level, deeper);
  }
  const Node& root = nodes_[kRoot];
  for (uint32_t i = 0; i < root.children; ++i) {
    first_[nodes_[root.first_child + i].label] = root.first_child + i;
  }
}

uint32_t ByteTrie::child(uint32_t node, uint8_t byte) const {
  if (node == kRoot) return first_[byte];
  const Node& parent = nodes_[node];
  const auto begin = nodes_.begin() + parent.first_child;
  const auto end = begin + parent.children;
  const auto found = std::lower_bound(
      begin, end, byte, [](const Node& entry, uint8_t wanted) { return entry.label < wanted; });
  return found != end && found->label == byte ? static_cast<uint32_t>(found - nodes_.begin()) : 0;
}

}  // namespace pare
