#include "model/input_groups.h"

#include <algorithm>
#include <numeric>
#include <optional>

namespace pare {
namespace {

// The op that writes a value; values other than the residual stream are written once, rotary
// embedding (in place) aside.
std::optional<size_t> writer_of(const BlockGraph& block, int value) {
  for (size_t i = 0; i < block.ops.size(); ++i) {
    const Op& op = block.ops[i];
    if (op.output == value && op.kind != OpKind::kRotary && op.kind != OpKind::kAddResidual) {
      return i;
    }
  }
  return std::nullopt;
}

int64_t reader_count(const BlockGraph& block, int value) {
  return std::count_if(block.ops.begin(), block.ops.end(), [&](const Op& op) {
    return std::find(op.inputs.begin(), op.inputs.end(), value) != op.inputs.end();
  });
}

// The linear behind `value`, if nobody but one op reads it and so its rows can be rescaled.
std::optional<size_t> private_linear(const BlockGraph& block, int value) {
  const std::optional<size_t> writer = writer_of(block, value);
  if (!writer || block.ops[*writer].kind != OpKind::kLinear) return std::nullopt;
  if (reader_count(block, value) != 1) return std::nullopt;
  return writer;
}

void find_producer(const BlockGraph& block, InputGroup& group) {
  const std::optional<size_t> writer = writer_of(block, group.value);
  if (!writer) return;
  // Somebody else than these linears reads the value too: it cannot be rescaled in place.
  if (reader_count(block, group.value) != static_cast<int64_t>(group.linears.size())) return;
  const Op& op = block.ops[*writer];
  if (op.kind == OpKind::kRmsNorm) {
    group.producer = Producer::kNorm;
    group.producer_op = *writer;
    return;
  }
  if (op.kind == OpKind::kGatedActivation) {
    if (const auto up = private_linear(block, op.inputs[1])) {
      group.producer = Producer::kLinear;
      group.producer_op = *up;
      group.producer_row.resize(static_cast<size_t>(group.in_features));
      std::iota(group.producer_row.begin(), group.producer_row.end(), 0);
    }
    return;
  }
  if (op.kind == OpKind::kAttention) {
    if (const auto v = private_linear(block, op.inputs[2])) {
      group.producer = Producer::kLinear;
      group.producer_op = *v;
      const AttentionShape& shape = block.attention;
      const int64_t repeat = shape.heads / shape.kv_heads;
      for (int64_t head = 0; head < shape.heads; ++head) {
        for (int64_t channel = 0; channel < shape.head_dim; ++channel) {
          group.producer_row.push_back(
              static_cast<int32_t>(head / repeat * shape.head_dim + channel));
        }
      }
    }
  }
}

}  // namespace

std::string InputGroup::describe(const BlockGraph& block) const {
  std::string text;
  for (const size_t index : linears) {
    if (!text.empty()) text += ", ";
    text += block.ops[index].name;
  }
  return text;
}

std::vector<InputGroup> input_groups(const BlockGraph& block) {
  std::vector<InputGroup> groups;
  for (size_t i = 0; i < block.ops.size(); ++i) {
    const Op& op = block.ops[i];
    if (op.kind != OpKind::kLinear) continue;
    auto same = std::find_if(groups.begin(), groups.end(),
                             [&](const InputGroup& group) { return group.value == op.inputs[0]; });
    if (same == groups.end()) {
      groups.push_back({});
      same = std::prev(groups.end());
      same->value = op.inputs[0];
      same->in_features = block.in_features(op);
    }
    same->linears.push_back(i);
  }
  for (InputGroup& group : groups) find_producer(block, group);
  return groups;
}

}  // namespace pare
