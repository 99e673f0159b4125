#include "model/channel_order.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>

#include "model/block_wiring.h"
#include "model/input_groups.h"

namespace pare {
namespace {

// Follows the channels of one input back to the linears that make them.
class Trace {
 public:
  Trace(const BlockGraph& block, const InputGroup& group) : block_(block), group_(group) {}

  std::optional<ReorderableInput> run() {
    std::vector<int32_t> channel(static_cast<size_t>(group_.in_features));
    std::iota(channel.begin(), channel.end(), 0);
    // Its readers must be these linears alone: they follow.
    if (readers_of(block_, group_.value) != group_.linears || !follow(group_.value, channel))
      return {};
    input_.value = group_.value;
    input_.in_features = group_.in_features;
    input_.linears = group_.linears;
    if (input_.begin.empty()) {
      input_.pool_size = group_.in_features;
      input_.begin = {0};
    }
    if (!fits_blocks_of_four() || !is_consistent()) return {};
    return input_;
  }

 private:
  // `channel`: of `value`, behind each channel of the input. False where an order cannot pass.
  bool follow(int value, const std::vector<int32_t>& channel) {
    if (value == block_.output || value == block_.memory) return false;
    const std::optional<size_t> written = writer_of(block_, value);
    if (!written) return false;
    const size_t writer = *written;
    const Op& op = block_.ops[writer];
    const auto step = [&](int next, const std::vector<int32_t>& behind) {
      return is_private(block_, next, writer, behind) && follow(next, behind);
    };
    switch (op.kind) {
      case OpKind::kLinear:
        input_.sources.push_back({writer, channel});
        return true;
      case OpKind::kNorm:
        // Over all channels it is a sum, in whatever order.
        if (op.norm.width > 0) return false;
        if (op.norm.weight || op.norm.bias) input_.sources.push_back({writer, channel});
        return step(op.inputs[0], channel);
      case OpKind::kActivation:
      case OpKind::kClamp:
        return step(op.inputs[0], channel);
      case OpKind::kGatedActivation:
        return step(op.inputs[0], channel) && step(op.inputs[1], channel);
      case OpKind::kSlice: {
        std::vector<int32_t> behind = channel;
        for (int32_t& c : behind) c = static_cast<int32_t>(op.slice.source(c));
        return step(op.inputs[0], behind);
      }
      case OpKind::kAttention:
        return follow_attention(op, channel) && step(op.inputs[2], values_behind(op, channel));
      default:
        return false;
    }
  }

  const AttentionShape& shape_of(const Op& op) const {
    return block_.attentions[static_cast<size_t>(op.detail)].shape;
  }

  std::vector<int32_t> values_behind(const Op& op, const std::vector<int32_t>& channel) const {
    const AttentionShape& shape = shape_of(op);
    const auto width = static_cast<int32_t>(shape.value_width());
    const auto repeat = static_cast<int32_t>(shape.heads / shape.kv_heads);
    std::vector<int32_t> behind = channel;
    for (int32_t& c : behind) c = c / width / repeat * width + c % width;
    return behind;
  }

  // Attention mixes tokens head by head: channels trade places within a head of values, in all
  // heads that read it alike.
  bool follow_attention(const Op& op, const std::vector<int32_t>& channel) {
    if (op.inputs[2] == op.inputs[0] || op.inputs[2] == op.inputs[1]) return false;
    const AttentionShape& shape = shape_of(op);
    const int64_t width = shape.value_width();
    if (static_cast<int64_t>(channel.size()) != shape.heads * width) return false;
    std::vector<int64_t> begin(static_cast<size_t>(shape.heads));
    for (size_t i = 0; i < channel.size(); ++i) {
      const auto c = static_cast<int64_t>(channel[i]);
      if (c % width == 0) begin[static_cast<size_t>(c / width)] = static_cast<int64_t>(i);
    }
    for (int64_t head = 0; head < shape.heads; ++head) {
      const int64_t first = begin[static_cast<size_t>(head)];
      for (int64_t member = 0; member < width; ++member) {
        const int64_t i = first + member;
        if (i >= static_cast<int64_t>(channel.size())) return false;
        if (channel[static_cast<size_t>(i)] != head * width + member) return false;
      }
    }
    if (!input_.begin.empty() && input_.begin != begin) return false;  // another attention's
    input_.begin = std::move(begin);
    input_.pool_size = width;
    input_.copies = shape.heads / shape.kv_heads;
    return true;
  }

  bool fits_blocks_of_four() const {
    return input_.pool_size % 4 == 0 && std::all_of(input_.begin.begin(), input_.begin.end(),
                                                    [](int64_t first) { return first % 4 == 0; });
  }

  // Whether the channels that a row feeds always move as one.
  bool is_consistent() const {
    std::vector<int64_t> unit(static_cast<size_t>(input_.in_features));
    for (size_t i = 0; i < input_.begin.size(); ++i) {
      const int64_t pool = static_cast<int64_t>(i) / input_.copies;
      for (int64_t member = 0; member < input_.pool_size; ++member) {
        unit[static_cast<size_t>(input_.begin[i] + member)] = pool * input_.pool_size + member;
      }
    }
    std::map<std::pair<size_t, int32_t>, int64_t> unit_of_row;
    for (const ChannelSource& source : input_.sources) {
      for (size_t i = 0; i < unit.size(); ++i) {
        const auto known = unit_of_row.try_emplace({source.op, source.row[i]}, unit[i]).first;
        if (known->second != unit[i]) return false;
      }
    }
    return true;
  }

  const BlockGraph& block_;
  const InputGroup& group_;
  ReorderableInput input_;
};

// Both ways from a gate may lead to the same rows: they move once.
void merge_sources(std::vector<ChannelSource>& sources) {
  std::vector<ChannelSource> unique;
  for (ChannelSource& source : sources) {
    const bool known = std::any_of(unique.begin(), unique.end(), [&](const ChannelSource& other) {
      return other.op == source.op && other.row == source.row;
    });
    if (!known) unique.push_back(std::move(source));
  }
  sources = std::move(unique);
}

}  // namespace

std::vector<ReorderableInput> reorderable_inputs(const BlockGraph& block) {
  std::vector<ReorderableInput> inputs;
  for (const InputGroup& group : input_groups(block)) {
    std::optional<ReorderableInput> input = Trace(block, group).run();
    if (!input) continue;
    merge_sources(input->sources);
    inputs.push_back(std::move(*input));
  }
  return inputs;
}

std::vector<int32_t> channel_order(const ReorderableInput& input,
                                   const std::vector<int32_t>& unit_order) {
  std::vector<int32_t> order(static_cast<size_t>(input.in_features));
  for (size_t i = 0; i < input.begin.size(); ++i) {
    const int64_t first = static_cast<int64_t>(i) / input.copies * input.pool_size;
    for (int64_t member = 0; member < input.pool_size; ++member) {
      const int64_t taken = unit_order[static_cast<size_t>(first + member)] - first;
      order[static_cast<size_t>(input.begin[i] + member)] =
          static_cast<int32_t>(input.begin[i] + taken);
    }
  }
  return order;
}

std::vector<int32_t> row_order(const ChannelSource& source, int64_t rows,
                               const std::vector<int32_t>& channel_order) {
  std::vector<int32_t> order(static_cast<size_t>(rows));
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = 0; i < channel_order.size(); ++i) {
    order[static_cast<size_t>(source.row[i])] = source.row[static_cast<size_t>(channel_order[i])];
  }
  return order;
}

}  // namespace pare
