#include "model/value_buffers.h"

#include <algorithm>

#include "pare/error.h"

namespace pare {
namespace {

// Index of the last op that reads each value; what leaves the block is read at its end.
std::vector<size_t> last_uses(const BlockGraph& block) {
  std::vector<size_t> last(block.widths.size(), 0);
  for (size_t i = 0; i < block.ops.size(); ++i) {
    for (const int input : block.ops[i].inputs) last[static_cast<size_t>(input)] = i;
  }
  last[static_cast<size_t>(block.output)] = block.ops.size();
  return last;
}

// Inputs whose place the output can take, element by element.
std::vector<int> replaceable_inputs(const Op& op) {
  switch (op.kind) {
    case OpKind::kNorm:
    case OpKind::kRotary:
    case OpKind::kClamp:
    case OpKind::kActivation:
      return {op.inputs[0]};
    case OpKind::kAdd:
      return {op.inputs[0], op.inputs[1]};
    case OpKind::kGatedActivation:
      return {op.inputs[1], op.inputs[0]};
    default:
      return {};
  }
}

class Planner {
 public:
  explicit Planner(const BlockGraph& block) : block_(block), last_(last_uses(block)) {
    plan_.buffer.assign(block.widths.size(), -1);
    plan_.buffer[0] = 0;
    plan_.widths = {block.widths[0]};
    taken_ = {true};
  }

  BufferPlan plan() {
    for (size_t i = 0; i < block_.ops.size(); ++i) place(i);
    return std::move(plan_);
  }

 private:
  int& buffer_of(int value) { return plan_.buffer[static_cast<size_t>(value)]; }
  bool dies(int value, size_t op) const { return last_[static_cast<size_t>(value)] == op; }

  void place(size_t index) {
    const Op& op = block_.ops[index];
    for (const int input : replaceable_inputs(op)) {
      if (dies(input, index) && input != block_.memory && buffer_of(op.output) < 0 &&
          block_.width(input) == block_.width(op.output)) {
        buffer_of(op.output) = buffer_of(input);
      }
    }
    if (buffer_of(op.output) < 0) buffer_of(op.output) = find_free(block_.width(op.output));
    for (const int input : op.inputs) {
      const int buffer = buffer_of(input);
      if (dies(input, index) && buffer > 0 && buffer != buffer_of(op.output)) {
        taken_[static_cast<size_t>(buffer)] = false;
      }
    }
  }

  // The narrowest free buffer that is wide enough, or the widest one, made wider.
  int find_free(int64_t width) {
    size_t best = 0;
    for (size_t b = 1; b < taken_.size(); ++b) {
      if (taken_[b]) continue;
      const bool fits = plan_.widths[b] >= width;
      const bool best_fits = best != 0 && plan_.widths[best] >= width;
      const bool narrower = best == 0 || plan_.widths[b] < plan_.widths[best];
      if (best == 0 || (fits && (!best_fits || narrower)) || (!fits && !best_fits && !narrower)) {
        best = b;
      }
    }
    if (best == 0) {
      best = taken_.size();
      taken_.push_back(false);
      plan_.widths.push_back(width);
    }
    taken_[best] = true;
    plan_.widths[best] = std::max(plan_.widths[best], width);
    return static_cast<int>(best);
  }

  const BlockGraph& block_;
  std::vector<size_t> last_;
  BufferPlan plan_;
  std::vector<bool> taken_;  // by buffer
};

}  // namespace

BufferPlan plan_buffers(const BlockGraph& block) { return Planner(block).plan(); }

std::vector<bool> memory_side_ops(const BlockGraph& block) {
  std::vector<bool> value_side(block.widths.size(), false);
  if (block.memory >= 0) value_side[static_cast<size_t>(block.memory)] = true;
  std::vector<bool> ops;
  for (const Op& op : block.ops) {
    const bool side = std::all_of(op.inputs.begin(), op.inputs.end(), [&](int input) {
      return value_side[static_cast<size_t>(input)];
    });
    ops.push_back(side);
    value_side[static_cast<size_t>(op.output)] = side;
  }
  return ops;
}

size_t experts_op(const BlockGraph& block) {
  const auto found = std::find_if(block.ops.begin(), block.ops.end(),
                                  [](const Op& op) { return op.kind == OpKind::kExperts; });
  return static_cast<size_t>(found - block.ops.begin());
}

void check_experts_cut(const BlockGraph& block, const BufferPlan& plan) {
  const size_t cut = experts_op(block);
  if (cut == block.ops.size()) return;
  for (size_t i = cut; i < block.ops.size(); ++i) {
    // Calibration watches the inputs of linears before the experts run.
    if (block.ops[i].kind == OpKind::kLinear) {
      throw Error(ErrorCode::kInternal, block.prefix + ": a linear follows the experts");
    }
  }
  const std::vector<size_t> last = last_uses(block);
  std::vector<size_t> made(block.widths.size(), 0);
  for (size_t i = 0; i < block.ops.size(); ++i) {
    made[static_cast<size_t>(block.ops[i].output)] = i;
  }
  for (size_t value = 0; value < last.size(); ++value) {
    const bool crosses = made[value] < cut && last[value] > cut;
    const bool kept =
        plan.buffer[value] == 0 || static_cast<int>(value) == block.ops[cut].inputs[0];
    if (crosses && !kept) {
      throw Error(ErrorCode::kInternal, block.prefix + ": value " + std::to_string(value) +
                                            " is needed behind the experts");
    }
  }
}

}  // namespace pare
