#include "model/block_runner.h"

#include <algorithm>

#include "kernels/causal_conv.h"
#include "kernels/selective_scan.h"
#include "kernels/vector_math.h"
#include "model/elementwise.h"
#include "pare/error.h"

namespace pare {
namespace {

int64_t run_rows(const BlockGraph& block, const WorkspaceSize& size) {
  const int64_t rows = size.rows > 0 ? size.rows : size.length;
  // Where every token sees all others, the keys of all have to be there before the first query.
  if (block.bidirectional()) return std::max(rows, int64_t{1});
  return std::clamp<int64_t>(std::max(rows, size.memory_length), 1, kChunkTokens);
}

}  // namespace

// The part of a segment that is in a chunk.
struct BlockRunner::Piece {
  int64_t rows = 0;
  int64_t position = 0;
  bool ends_segment = false;
  int64_t length =
      0;  // positions up to the end of its segment: some models rotate long ones otherwise
};

BlockWorkspace::BlockWorkspace(const BlockGraph& block, const WorkspaceSize& size,
                               Precision precision)
    : state_(block, std::max<int64_t>(1, size.length), std::max<int64_t>(1, size.memory_length),
             precision) {
  const int64_t rows = padded_rows(run_rows(block, size));
  const BufferPlan plan = plan_buffers(block);
  buffers_.resize(plan.widths.size());
  for (size_t i = 1; i < buffers_.size(); ++i) {
    buffers_[i].resize(static_cast<size_t>(rows * plan.widths[i]));
  }
}

int64_t BlockWorkspace::memory_bytes(const BlockGraph& block, const WorkspaceSize& size,
                                     Precision precision) {
  const int64_t rows = padded_rows(run_rows(block, size));
  const BufferPlan plan = plan_buffers(block);
  int64_t width = 0;
  for (size_t i = 1; i < plan.widths.size(); ++i) width += plan.widths[i];
  return rows * width * 4 +
         SequenceState::memory_bytes(block, size.length, size.memory_length, precision);
}

std::vector<BlockWorkspace> make_workspaces(size_t count, const BlockGraph& block,
                                            const WorkspaceSize& size, Precision precision) {
  std::vector<BlockWorkspace> workspaces;
  workspaces.reserve(count);
  for (size_t i = 0; i < count; ++i) workspaces.emplace_back(block, size, precision);
  return workspaces;
}

// The rows that run together, and what the ops need of them.
struct BlockRunner::Chunk {
  const BlockRunner& runner;
  BlockWorkspace& workspace;
  const RunHooks& hooks;
  float* hidden;  // [rows, hidden size]
  const float* memory;
  int64_t rows;
  int64_t first;  // number of the first row among those of the run
  std::span<const Piece> pieces;
  // What workspace.input_ holds now: consecutive linears on one value often share it.
  int prepared_value = -1;
  const Linear* prepared_for = nullptr;

  const float* in(int value) const {
    return value == runner.block_.memory ? memory : buffer(value);
  }
  float* out(int value) const { return buffer(value); }
  size_t size(int value) const { return static_cast<size_t>(rows * runner.block_.width(value)); }

 private:
  float* buffer(int value) const {
    const int number = runner.buffers_.buffer[static_cast<size_t>(value)];
    return number == 0 ? hidden : workspace.buffers_[static_cast<size_t>(number)].data();
  }
};

BlockRunner::BlockRunner(const BlockGraph& block, const BlockWeights& weights,
                         PositionTables& positions, Precision precision)
    : block_(block),
      weights_(weights),
      buffers_(plan_buffers(block)),
      memory_side_(memory_side_ops(block)),
      experts_op_(pare::experts_op(block)) {
  check_experts_cut(block, buffers_);
  for (const RotaryShape& shape : block.rotaries) rotary_.push_back(&positions.rotary(shape));
  for (size_t i = 0; i < block.ops.size(); ++i) {
    if (block.ops[i].kind != OpKind::kAttention) continue;
    const AttentionSpec& spec = block.attentions[static_cast<size_t>(block.ops[i].detail)];
    terms_.push_back(
        make_attention_terms(spec, weights.weight[i], weights.table[i], positions.positions()));
  }
  for (size_t i = 0; i < block.attentions.size(); ++i) {
    attention_.emplace_back(block.attentions[i].shape, precision, &terms_[i]);
  }
}

void BlockRunner::run(float* hidden, int64_t tokens, BlockWorkspace& workspace,
                      const InputObserver& observer) const {
  const Segment whole{tokens, 0};
  run({.hidden = hidden, .segments = {&whole, 1}}, workspace, {.observer = observer, .editor = {}});
}

void BlockRunner::run(const SequenceRun& sequence, BlockWorkspace& workspace,
                      const RunHooks& hooks) const {
  if (sequence.memory != nullptr) run_memory(sequence, workspace, hooks);
  const int64_t chunk_rows = block_.bidirectional() ? INT64_MAX : kChunkTokens;
  std::vector<Piece> pieces;
  int64_t first = 0;
  int64_t rows = 0;
  const auto flush = [&] {
    if (rows == 0) return;
    Chunk chunk{*this,   workspace, hooks, sequence.hidden + first * block_.widths[0],
                nullptr, rows,      first, pieces};
    run_ops(0, experts_op_, chunk);
    if (has_experts()) {
      const Op& op = block_.ops[experts_op_];
      sequence.experts->set(*block_.experts, weights_.correction, sequence.first_row + first, rows,
                            chunk.in(op.inputs[0]), chunk.in(op.inputs[1]));
    } else {
      leave_output(chunk);
    }
    first += rows;
    rows = 0;
    pieces.clear();
  };
  for (const Segment& segment : sequence.segments) {
    for (int64_t done = 0; done < segment.rows;) {
      const int64_t count = std::min(segment.rows - done, chunk_rows - rows);
      pieces.push_back({count, segment.position + done, done + count == segment.rows,
                        segment.position + segment.rows});
      done += count;
      rows += count;
      if (rows == chunk_rows) flush();
    }
  }
  flush();
}

void BlockRunner::finish(const SequenceRun& sequence, BlockWorkspace& workspace,
                         const RunHooks& hooks) const {
  int64_t total = 0;
  for (const Segment& segment : sequence.segments) total += segment.rows;
  const Op& op = block_.ops[experts_op_];
  for (int64_t first = 0; first < total; first += kChunkTokens) {
    const int64_t rows = std::min(kChunkTokens, total - first);
    Chunk chunk{*this,   workspace, hooks, sequence.hidden + first * block_.widths[0],
                nullptr, rows,      first, {}};
    const auto copy = [&](const std::vector<float>& from, int value) {
      const auto begin = from.begin() + (sequence.first_row + first) * block_.width(value);
      std::copy(begin, begin + static_cast<int64_t>(chunk.size(value)), chunk.out(value));
    };
    copy(sequence.experts->output, op.output);
    // The experts' input may be read again; it does not share a buffer with their output then.
    if (chunk.out(op.inputs[0]) != chunk.out(op.output)) {
      copy(sequence.experts->input, op.inputs[0]);
    }
    run_ops(experts_op_ + 1, block_.ops.size(), chunk);
    leave_output(chunk);
  }
}

void BlockRunner::apply(float* x, int64_t rows, BlockWorkspace& workspace, float* out) const {
  const RunHooks hooks;
  Chunk chunk{*this, workspace, hooks, x, nullptr, rows, 0, {}};
  run_ops(0, block_.ops.size(), chunk);
  const float* output = chunk.in(block_.output);
  std::copy(output, output + chunk.size(block_.output), out);
}

void BlockRunner::run_memory(const SequenceRun& sequence, BlockWorkspace& workspace,
                             const RunHooks& hooks) const {
  for (size_t i = 0; i < block_.attentions.size(); ++i) {
    if (block_.attentions[i].memory) workspace.state_.cache(static_cast<int>(i)).clear();
  }
  for (int64_t first = 0; first < sequence.memory_rows; first += kChunkTokens) {
    const int64_t rows = std::min(kChunkTokens, sequence.memory_rows - first);
    Chunk chunk{
        *this, workspace, hooks, nullptr, sequence.memory + first * block_.width(block_.memory),
        rows,  first,     {}};
    for (size_t i = 0; i < block_.ops.size(); ++i) {
      const Op& op = block_.ops[i];
      if (memory_side_[i]) {
        run_op(i, chunk);
      } else if (op.kind == OpKind::kAttention &&
                 block_.attentions[static_cast<size_t>(op.detail)].memory) {
        fill_cache(i, rows, chunk.in(op.inputs[1]), chunk.in(op.inputs[2]), chunk);
      }
    }
  }
}

void BlockRunner::leave_output(Chunk& chunk) const {
  const float* output = chunk.in(block_.output);
  if (output != chunk.hidden) std::copy(output, output + chunk.size(block_.output), chunk.hidden);
}

void BlockRunner::run_ops(size_t begin, size_t end, Chunk& chunk) const {
  for (size_t i = begin; i < end; ++i) {
    if (!memory_side_[i]) run_op(i, chunk);
  }
}

void BlockRunner::run_op(size_t index, Chunk& chunk) const {
  const Op& op = block_.ops[index];
  const float* in = chunk.in(op.inputs[0]);
  float* out = chunk.out(op.output);
  const size_t size = chunk.size(op.output);
  const auto copy_in = [&] {
    if (in != out) std::copy(in, in + size, out);
    return std::span<float>(out, size);
  };
  switch (op.kind) {
    case OpKind::kNorm:
      return run_norm(index, chunk);
    case OpKind::kLinear:
      return run_linear(index, chunk);
    case OpKind::kSlice:
      return slice_rows(op.slice, chunk.rows, {in, chunk.size(op.inputs[0])}, {out, size});
    case OpKind::kJoinHeads:
      return join_heads(op.heads, chunk.rows, {in, chunk.size(op.inputs[0])},
                        {chunk.in(op.inputs[1]), chunk.size(op.inputs[1])}, {out, size});
    case OpKind::kRotary:
      copy_in();
      return run_rotary(op, chunk);
    case OpKind::kClamp:
      return clamp_in_place(copy_in(), -op.limit, op.limit);
    case OpKind::kActivation:
      return activate(op.activation, copy_in());
    case OpKind::kGatedActivation:
      return gated_activation(op.activation, {in, size}, {chunk.in(op.inputs[1]), size},
                              {out, size});
    case OpKind::kAdd: {
      const float* other = chunk.in(op.inputs[1]);
      // Either may lie where the sum goes.
      if (out == other) return add_in_place({out, size}, {in, size});
      return add_in_place(copy_in(), {other, size});
    }
    case OpKind::kAttention:
      return run_attention(index, chunk);
    case OpKind::kConvolution:
    case OpKind::kSelectiveScan:
    case OpKind::kStateSpaceScan:
      return run_over_time(index, chunk);
    case OpKind::kExperts:
      throw Error(ErrorCode::kInternal, block_.prefix + ": experts run by themselves");
  }
}

void BlockRunner::run_norm(size_t index, Chunk& chunk) const {
  const Op& op = block_.ops[index];
  const int64_t width = op.norm.width > 0 ? op.norm.width : block_.width(op.output);
  const auto n = static_cast<size_t>(width);
  const float* in = chunk.in(op.inputs[0]);
  float* out = chunk.out(op.output);
  for (size_t at = 0; at < chunk.size(op.output); at += n) {
    if (op.norm.centered) {
      layer_norm_row({in + at, n}, weights_.weight[index], weights_.bias[index], op.norm.epsilon,
                     {out + at, n});
    } else {
      rms_norm_row({in + at, n}, weights_.weight[index], op.norm.epsilon, {out + at, n});
    }
  }
}

void BlockRunner::run_linear(size_t index, Chunk& chunk) const {
  const Op& op = block_.ops[index];
  const Linear& linear = weights_.linears[index];
  const int in = op.inputs[0];
  LinearInput& input = chunk.workspace.input_;
  if (chunk.prepared_value != in) {
    if (chunk.hooks.observer) chunk.hooks.observer(in, chunk.first, chunk.rows, chunk.in(in));
    chunk.prepared_for = nullptr;
  }
  if (chunk.prepared_for == nullptr || chunk.prepared_for->precision() != linear.precision() ||
      !(chunk.prepared_for->input_format() == linear.input_format())) {
    linear.prepare(chunk.in(in), chunk.rows, input);
    chunk.prepared_for = &linear;
  }
  chunk.prepared_value = in;
  linear.multiply(input, chunk.out(op.output));
  if (weights_.adapters[index]) run_adapter(index, chunk);
  if (chunk.hooks.editor) {
    chunk.hooks.editor(index, chunk.rows, chunk.in(in), chunk.out(op.output));
  }
}

// On the input as it is, not as the linear rounds it.
void BlockRunner::run_adapter(size_t index, Chunk& chunk) const {
  const Op& op = block_.ops[index];
  const LowRankAdapter& adapter = *weights_.adapters[index];
  BlockWorkspace& workspace = chunk.workspace;
  const int64_t rows = padded_rows(chunk.rows);
  workspace.adapter_low_.resize(static_cast<size_t>(rows * adapter.a.out_features()));
  workspace.adapter_out_.resize(static_cast<size_t>(rows * adapter.b.out_features()));
  adapter.a.prepare(chunk.in(op.inputs[0]), chunk.rows, workspace.adapter_input_);
  adapter.a.multiply(workspace.adapter_input_, workspace.adapter_low_.data());
  adapter.b.prepare(workspace.adapter_low_.data(), chunk.rows, workspace.adapter_input_);
  adapter.b.multiply(workspace.adapter_input_, workspace.adapter_out_.data());
  const size_t size = chunk.size(op.output);
  add_in_place({chunk.out(op.output), size}, {workspace.adapter_out_.data(), size});
}

void BlockRunner::run_rotary(const Op& op, Chunk& chunk) const {
  const RotaryShape& shape = block_.rotaries[static_cast<size_t>(op.detail)];
  const RotaryLookup& lookup = *rotary_[static_cast<size_t>(op.detail)];
  const auto half = static_cast<size_t>(shape.rotated / 2);
  const auto rotated = static_cast<size_t>(shape.rotated);
  float* x = chunk.out(op.output);
  for (const Piece& piece : chunk.pieces) {
    const RotaryTable& table = lookup.for_length(piece.length);
    for (int64_t row = 0; row < piece.rows; ++row) {
      const size_t offset = static_cast<size_t>(piece.position + row) * half;
      const std::span<const float> cosine(table.cosine.data() + offset, half);
      const std::span<const float> sine(table.sine.data() + offset, half);
      const float* end = x + block_.width(op.output);
      for (; x < end; x += shape.head_dim) {
        const std::span<float> channels(x + shape.first, rotated);
        if (shape.interleaved) {
          rotate_interleaved(channels, cosine, sine);
        } else {
          rotate_half(channels, cosine, sine);
        }
      }
    }
  }
}

void BlockRunner::fill_cache(size_t index, int64_t rows, const float* k, const float* v,
                             Chunk& chunk) const {
  if (chunk.hooks.cache) chunk.hooks.cache(index, rows, k, v);
  chunk.workspace.state_.cache(block_.ops[index].detail)
      .append(k, v, rows, weights_.cache_format(index));
}

void BlockRunner::run_attention(size_t index, Chunk& chunk) const {
  const Op& op = block_.ops[index];
  const AttentionSpec& spec = block_.attentions[static_cast<size_t>(op.detail)];
  const Attention& attention = attention_[static_cast<size_t>(op.detail)];
  SequenceState& state = chunk.workspace.state_;
  KeyValueCache& cache = state.cache(op.detail);
  const float* q = chunk.in(op.inputs[0]);
  const float* k = spec.memory ? nullptr : chunk.in(op.inputs[1]);
  const float* v = spec.memory ? nullptr : chunk.in(op.inputs[2]);
  float* out = chunk.out(op.output);
  const AttentionShape& shape = spec.shape;
  for (const Piece& piece : chunk.pieces) {
    if (!spec.memory) {
      cache.truncate(piece.position);
      fill_cache(index, piece.rows, k, v, chunk);
      k += piece.rows * shape.kv_heads * shape.head_dim;
      v += piece.rows * shape.kv_heads * shape.value_width();
    }
    attention.run(q, piece.rows, piece.position, cache, out, chunk.workspace.attention_);
    q += piece.rows * shape.heads * shape.head_dim;
    out += piece.rows * shape.heads * shape.value_width();
  }
}

void BlockRunner::run_over_time(size_t index, Chunk& chunk) const {
  const Op& op = block_.ops[index];
  int64_t row = 0;
  for (const Piece& piece : chunk.pieces) {
    const std::span<float> state = chunk.workspace.state_.scan_state(index, piece.position);
    const auto rows_of = [&](int value) { return chunk.in(value) + row * block_.width(value); };
    float* out = chunk.out(op.output) + row * block_.width(op.output);
    if (op.kind == OpKind::kConvolution) {
      const int64_t channels = block_.width(op.output);
      causal_conv(rows_of(op.inputs[0]), piece.rows, channels, weights_.weight[index],
                  weights_.bias[index], channels,
                  block_.convolutions[static_cast<size_t>(op.detail)].kernel, state, out);
    } else {
      run_scan(index,
               {rows_of(op.inputs[0]), rows_of(op.inputs[1]), rows_of(op.inputs[2]),
                rows_of(op.inputs[3]), out, piece.rows},
               state);
    }
    chunk.workspace.state_.advance_scan(index, piece.rows, piece.ends_segment);
    row += piece.rows;
  }
}

void BlockRunner::run_scan(size_t index, const ScanRows& rows, std::span<float> state) const {
  const Op& op = block_.ops[index];
  const ScanSpec& spec = block_.scans[static_cast<size_t>(op.detail)];
  const int64_t steps = block_.width(op.inputs[1]);
  std::vector<float> dt(rows.dt, rows.dt + rows.count * steps);
  if (!weights_.bias[index].empty()) add_bias_rows(dt, rows.count, weights_.bias[index]);
  softplus(dt);
  if (spec.step_max > 0) {
    for (float& step : dt) step = std::clamp(step, spec.step_min, spec.step_max);
  }
  if (op.kind == OpKind::kSelectiveScan) {
    selective_scan({.x = rows.x, .dt = dt.data(), .b = rows.b, .c = rows.c, .rows = rows.count},
                   weights_.weight[index], weights_.skip[index], block_.width(op.output),
                   spec.state_size, state, rows.out);
  } else {
    state_space_scan(rows.x, dt.data(), rows.b, rows.c, rows.count, weights_.weight[index],
                     weights_.skip[index],
                     {spec.heads, spec.head_dim, spec.state_size, spec.groups}, state, rows.out);
  }
}

}  // namespace pare
