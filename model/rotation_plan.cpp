#include "model/rotation_plan.h"

#include <algorithm>
#include <utility>

#include "formats/beside_source.h"
#include "kernels/hadamard.h"
#include "model/block_wiring.h"
#include "model/input_groups.h"
#include "pare/error.h"

namespace pare {
namespace {

// What a value is in the rotated model.
struct Frame {
  enum class Kind : uint8_t {
    kPlain,   // what it was
    kStream,  // rotated
    kNormed,  // rotated, and without the gain of the norm that made it
  };
  Kind kind = Kind::kPlain;
  std::string gain;  // kNormed: the norm's weight; empty when it has none
  float gain_offset = 0;

  bool plain() const { return kind == Kind::kPlain; }
};

class Planner {
 public:
  Planner(const ModelGraph& graph, bool heads, const std::string& origin)
      : graph_(graph), heads_(heads), origin_(origin) {}

  RotationPlan run(const std::string& head) {
    plan_.width = graph_.hidden_size;
    if (graph_.encoder) refuse("it has an encoder, whose output its decoder reads");
    if (!HadamardRotation::exists(plan_.width)) {
      refuse("there is no rotation of its width " + std::to_string(plan_.width));
    }
    const Frame stream{Frame::Kind::kStream, {}, 0};
    for (const BlockGraph& block : graph_.blocks) add_block(block, stream, true);
    add_embedding();
    add_head(add_block(graph_.head.tail, stream, false), head);
    return std::move(plan_);
  }

 private:
  [[noreturn]] void refuse(const std::string& why) const {
    throw Error(ErrorCode::kUsage, origin_ + ": the residual stream of " + graph_.architecture +
                                       " cannot be rotated: " + why + "; quantize without rotate");
  }

  ChannelMixing stream_mixing() const { return {plan_.width, {}}; }

  void add(const std::string& name, TensorRotation rotation) {
    if (rotation.stored.empty()) rotation.stored = name;
    if (!plan_.tensors.emplace(name, std::move(rotation)).second) {
      refuse("\"" + name + "\" is used in two places");
    }
  }

  // Values that are the stream: its begin and end, and what is added to it.
  std::vector<bool> stream_values(const BlockGraph& block, const Frame& input, bool ends) const {
    std::vector<bool> stream(block.widths.size(), false);
    stream[0] = input.kind == Frame::Kind::kStream;
    if (ends) stream[static_cast<size_t>(block.output)] = true;
    for (bool grown = true; grown;) {
      grown = false;
      for (const Op& op : block.ops) {
        if (op.kind != OpKind::kAdd) continue;
        const std::vector<int> values{op.inputs[0], op.inputs[1], op.output};
        const auto is_stream = [&](int value) { return stream[static_cast<size_t>(value)]; };
        if (std::none_of(values.begin(), values.end(), is_stream) ||
            std::all_of(values.begin(), values.end(), is_stream)) {
          continue;
        }
        for (const int value : values) stream[static_cast<size_t>(value)] = true;
        grown = true;
      }
    }
    return stream;
  }

  // `ends`: the block's output is the stream. Returns what its output is.
  Frame add_block(const BlockGraph& block, const Frame& input, bool ends) {
    const std::vector<bool> stream = stream_values(block, input, ends);
    std::vector<Frame> frames(block.widths.size());
    for (size_t value = 0; value < frames.size(); ++value) {
      if (!stream[value]) continue;
      frames[value].kind = Frame::Kind::kStream;
      if (block.widths[value] != plan_.width) {
        refuse(block.prefix + " widens or narrows the stream");
      }
    }
    if (stream[0] && input.kind != Frame::Kind::kStream) {
      refuse("in " + block.prefix + " the output of a norm is added to the stream");
    }
    frames[0] = input;
    for (const Op& op : block.ops) {
      const bool writes = stream[static_cast<size_t>(op.output)];
      const Frame& in = frames[static_cast<size_t>(op.inputs[0])];
      switch (op.kind) {
        case OpKind::kAdd:
          check_add(block, op, frames);
          break;
        case OpKind::kNorm:
          frames[static_cast<size_t>(op.output)] = add_norm(block, op, in, writes);
          break;
        case OpKind::kLinear:
          add_linear(block, op, in, writes);
          break;
        case OpKind::kExperts:
          if (!frames[static_cast<size_t>(op.inputs[1])].plain()) {
            refuse("in " + block.prefix + " experts are chosen by the stream itself");
          }
          for (int64_t i = 0; i < block.experts->count; ++i) {
            add_block(expert_block(block, i), in, writes);
          }
          break;
        default:
          check_other(block, op, frames, writes);
      }
    }
    if (heads_) add_heads(block);
    return frames[static_cast<size_t>(block.output)];
  }

  void check_add(const BlockGraph& block, const Op& op, const std::vector<Frame>& frames) const {
    for (const int value : op.inputs) {
      if (frames[static_cast<size_t>(value)].kind == Frame::Kind::kNormed) {
        refuse("in " + block.prefix + " the output of a norm is added to something");
      }
    }
  }

  void check_other(const BlockGraph& block, const Op& op, const std::vector<Frame>& frames,
                   bool writes) const {
    const bool reads = std::any_of(op.inputs.begin(), op.inputs.end(), [&](int value) {
      return !frames[static_cast<size_t>(value)].plain();
    });
    if (reads) {
      refuse("in " + block.prefix + " channels of the stream are read one by one, by no linear");
    }
    if (writes) refuse("in " + block.prefix + " something other than a linear writes to it");
  }

  Frame add_norm(const BlockGraph& block, const Op& op, const Frame& in, bool writes) {
    const std::string name = "norm \"" + block.full_name(op) + "\" ";
    if (op.norm.centered && (writes || !in.plain())) {
      refuse(name + "takes off the mean (layer norm), which a rotation does not keep");
    }
    if (writes) {
      refuse(name + "stands behind a linear, and its gain scales what is added to the stream");
    }
    if (in.plain()) return {};
    if (in.kind == Frame::Kind::kNormed) refuse(name + "reads another norm");
    if (op.norm.bias) refuse(name + "has a bias");
    if (op.norm.width > 0 && op.norm.width != plan_.width) {
      refuse(name + "is over parts of the stream");
    }
    if (!op.norm.weight) return {Frame::Kind::kNormed, {}, 0};
    const std::string weight = block.full_name(op) + ".weight";
    TensorRotation ones;
    ones.fill = 1 - op.norm.weight_offset;
    add(weight, std::move(ones));
    return {Frame::Kind::kNormed, weight, op.norm.weight_offset};
  }

  void add_linear(const BlockGraph& block, const Op& op, const Frame& in, bool writes) {
    if (in.plain() && !writes) return;
    const std::string name = block.full_name(op);
    TensorRotation reads;
    if (!in.plain()) {
      reads.gain = in.gain;
      reads.gain_offset = in.gain_offset;
      reads.inputs = stream_mixing();
    }
    TensorRotation outputs;
    if (writes) outputs.outputs = stream_mixing();
    TensorRotation weight = reads;
    weight.outputs = outputs.outputs;
    weight.transposed = op.linear.transposed;
    add(name + ".weight", std::move(weight));
    if (writes && op.linear.bias) add(name + ".bias", outputs);
    if (op.linear.adapter_rank == 0) return;
    if (!in.plain()) add(name + kLoraASuffix, std::move(reads));
    if (writes) add(name + kLoraBSuffix, std::move(outputs));
  }

  // The op that makes a value, behind any slices of it; null for the block's input.
  static const Op* origin_of(const BlockGraph& block, int value) {
    const Op* op = maker_of(block, value);
    while (op != nullptr && op->kind == OpKind::kSlice) {
      op = maker_of(block, op->inputs[0]);
    }
    return op;
  }

  void add_heads(const BlockGraph& block) {
    const std::vector<InputGroup> groups = input_groups(block);
    for (const Op& op : block.ops) {
      if (op.kind != OpKind::kAttention) continue;
      ++plan_.attentions;
      const AttentionShape& shape = block.attentions[static_cast<size_t>(op.detail)].shape;
      const auto group = std::find_if(groups.begin(), groups.end(),
                                      [&](const auto& one) { return one.value == op.output; });
      if (group == groups.end() || group->producer != Producer::kLinear ||
          origin_of(block, op.inputs[2]) != &block.ops[group->producer_op] ||
          !HadamardRotation::exists(shape.value_width())) {
        continue;
      }
      rotate_heads(block, shape, *group);
      ++plan_.rotated_attentions;
    }
  }

  void rotate_heads(const BlockGraph& block, const AttentionShape& shape, const InputGroup& group) {
    const int64_t width = shape.value_width();
    // Query heads that share a key share its values: the rows of the first of them are all.
    ChannelMixing rows{width, {}};
    const int64_t repeat = shape.heads / shape.kv_heads;
    for (int64_t head = 0; head < shape.heads; head += repeat) {
      for (int64_t i = 0; i < width; ++i) {
        rows.channels.push_back(group.producer_row[static_cast<size_t>(head * width + i)]);
      }
    }
    const auto change = [&](const std::string& name, bool transposed) -> TensorRotation& {
      TensorRotation& rotation = plan_.tensors[name];
      rotation.stored = name;
      rotation.transposed = transposed;
      return rotation;
    };
    const Op& producer = block.ops[group.producer_op];
    const std::string values = block.full_name(producer);
    change(values + ".weight", producer.linear.transposed).outputs = rows;
    if (producer.linear.bias) change(values + ".bias", false).outputs = rows;
    if (producer.linear.adapter_rank > 0) change(values + kLoraBSuffix, false).outputs = rows;
    for (const size_t index : group.linears) {
      const Op& reader = block.ops[index];
      const std::string name = block.full_name(reader);
      change(name + ".weight", reader.linear.transposed).inputs = {width, {}};
      if (reader.linear.adapter_rank > 0) change(name + kLoraASuffix, false).inputs = {width, {}};
    }
  }

  void add_embedding() {
    const EmbeddingSpec& embedding = graph_.embedding;
    if (!embedding.stem.ops.empty()) refuse("something stands between the embedding and it");
    if (embedding.position_kind != PositionKind::kNone) {
      refuse("positions are added to it");
    }
    TensorRotation rotation;
    rotation.inputs = stream_mixing();
    add(embedding.tokens, std::move(rotation));
  }

  void add_head(const Frame& in, const std::string& name) {
    TensorRotation rotation;
    rotation.stored = graph_.head.matrix;
    if (!in.plain()) {
      rotation.gain = in.gain;
      rotation.gain_offset = in.gain_offset;
      rotation.inputs = stream_mixing();
    }
    add(name, std::move(rotation));
  }

  const ModelGraph& graph_;
  const bool heads_;
  const std::string& origin_;
  RotationPlan plan_;
};

}  // namespace

RotationPlan plan_rotation(const ModelGraph& graph, const std::string& head, bool heads,
                           const std::string& origin) {
  return Planner(graph, heads, origin).run(head);
}

}  // namespace pare
