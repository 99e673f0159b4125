#include "model/input_groups.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "model/block_wiring.h"

namespace pare {
namespace {

// Channel of the values of attention behind each channel of its output.
std::vector<int32_t> value_channels(const AttentionShape& shape) {
  const int64_t repeat = shape.heads / shape.kv_heads;
  std::vector<int32_t> channels;
  for (int64_t head = 0; head < shape.heads; ++head) {
    for (int64_t channel = 0; channel < shape.value_width(); ++channel) {
      channels.push_back(static_cast<int32_t>(head / repeat * shape.value_width() + channel));
    }
  }
  return channels;
}

// One step back through an operation that keeps scales: the input that carries them, and the
// channel of it behind each channel of the output. −1 where there is none.
struct Step {
  int input = -1;
  std::vector<int32_t> channel;
};

Step step_back(const BlockGraph& block, const Op& op) {
  const auto identity = [&] {
    std::vector<int32_t> channels(static_cast<size_t>(block.width(op.output)));
    std::iota(channels.begin(), channels.end(), 0);
    return channels;
  };
  switch (op.kind) {
    case OpKind::kSlice: {
      std::vector<int32_t> channels = identity();
      for (int32_t& channel : channels) channel = static_cast<int32_t>(op.slice.source(channel));
      return {op.inputs[0], std::move(channels)};
    }
    case OpKind::kGatedActivation:
      if (op.activation == Activation::kClampedSwiglu) return {};
      return {op.inputs[1], identity()};
    case OpKind::kActivation:
      if (op.activation != Activation::kRelu) return {};
      return {op.inputs[0], identity()};
    case OpKind::kAttention:
      return {op.inputs[2], value_channels(block.attentions[static_cast<size_t>(op.detail)].shape)};
    default:
      return {};
  }
}

// Back from the group's input to rows of a linear that nobody else needs.
void find_linear(const BlockGraph& block, size_t writer, InputGroup& group) {
  std::vector<int32_t> channel(static_cast<size_t>(group.in_features));
  std::iota(channel.begin(), channel.end(), 0);
  while (block.ops[writer].kind != OpKind::kLinear) {
    const Step step = step_back(block, block.ops[writer]);
    if (step.input < 0) return;
    for (int32_t& c : channel) c = step.channel[static_cast<size_t>(c)];
    if (!is_private(block, step.input, writer, channel)) return;
    const std::optional<size_t> before = writer_of(block, step.input);
    if (!before) return;
    writer = *before;
  }
  group.producer = Producer::kLinear;
  group.producer_op = writer;
  group.producer_row = std::move(channel);
}

void find_producer(const BlockGraph& block, InputGroup& group) {
  const std::optional<size_t> writer = writer_of(block, group.value);
  if (!writer || group.value == block.output) return;
  // Somebody else than these linears reads the value too: it cannot be rescaled in place.
  if (readers_of(block, group.value).size() != group.linears.size()) return;
  const Op& op = block.ops[*writer];
  if (op.kind != OpKind::kNorm) return find_linear(block, *writer, group);
  if (!op.norm.weight || op.norm.width > 0) return;
  group.producer = Producer::kNorm;
  group.producer_op = *writer;
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
