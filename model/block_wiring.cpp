#include "model/block_wiring.h"

#include <algorithm>

namespace pare {

std::optional<size_t> writer_of(const BlockGraph& block, int value) {
  for (size_t i = 0; i < block.ops.size(); ++i) {
    if (block.ops[i].output == value) return i;
  }
  return std::nullopt;
}

const Op* maker_of(const BlockGraph& block, int value) {
  const std::optional<size_t> writer = writer_of(block, value);
  return writer ? &block.ops[*writer] : nullptr;
}

std::vector<size_t> readers_of(const BlockGraph& block, int value) {
  std::vector<size_t> readers;
  for (size_t i = 0; i < block.ops.size(); ++i) {
    const std::vector<int>& inputs = block.ops[i].inputs;
    if (std::find(inputs.begin(), inputs.end(), value) != inputs.end()) readers.push_back(i);
  }
  return readers;
}

bool is_private(const BlockGraph& block, int value, size_t reader,
                const std::vector<int32_t>& channels) {
  if (value == block.output) return false;
  std::vector<bool> used(static_cast<size_t>(block.width(value)), false);
  for (const int32_t channel : channels) used[static_cast<size_t>(channel)] = true;
  for (const size_t other : readers_of(block, value)) {
    if (other == reader) continue;
    const Op& op = block.ops[other];
    if (op.kind != OpKind::kSlice) return false;
    for (int64_t channel = 0; channel < block.width(op.output); ++channel) {
      if (used[static_cast<size_t>(op.slice.source(channel))]) return false;
    }
  }
  return true;
}

}  // namespace pare
