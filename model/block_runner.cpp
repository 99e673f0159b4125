#include "model/block_runner.h"

#include <algorithm>
#include <cmath>

#include "kernels/vector_math.h"
#include "pare/error.h"

namespace pare {
namespace {

void gated_activation(Activation activation, std::span<const float> gate, std::span<const float> up,
                      std::span<float> out) {
  switch (activation) {
    case Activation::kSilu:
      return silu_multiply(gate, up, out);
    case Activation::kGeluTanh:
      return gelu_tanh_multiply(gate, up, out);
    case Activation::kGeluErf:
      return gelu_erf_multiply(gate, up, out);
  }
}

void rotate_rows(const RotaryShape& shape, const RotaryTable& table, int64_t position, int64_t rows,
                 int64_t width, float* x) {
  const auto half = static_cast<size_t>(table.half);
  for (int64_t row = 0; row < rows; ++row) {
    const size_t offset = static_cast<size_t>(position + row) * half;
    for (int64_t head = 0; head < width / shape.head_dim; ++head) {
      rotate_half({x + row * width + head * shape.head_dim, static_cast<size_t>(shape.head_dim)},
                  {table.cosine.data() + offset, half}, {table.sine.data() + offset, half});
    }
  }
}

void rotate_pieces(const RotaryShape& shape, const RotaryTable& table,
                   std::span<const Segment> pieces, int64_t width, float* x) {
  for (const Segment& piece : pieces) {
    rotate_rows(shape, table, piece.position, piece.rows, width, x);
    x += piece.rows * width;
  }
}

}  // namespace

std::vector<std::string> block_tensors(const BlockGraph& block) {
  std::vector<std::string> names;
  for (const Op& op : block.ops) {
    if (op.kind != OpKind::kLinear && op.kind != OpKind::kRmsNorm) continue;
    names.push_back(block.full_name(op) + ".weight");
    if (op.bias) names.push_back(block.full_name(op) + ".bias");
  }
  return names;
}

std::vector<float> load_vector(const WeightSource& source, const std::string& name) {
  std::vector<float> values = to_f32(source.dense(name), name);
  for (const float value : values) {
    if (!std::isfinite(value)) {
      throw Error(ErrorCode::kNonFinite,
                  source.file_of(name) + ": tensor \"" + name + "\" holds NaN or infinity");
    }
  }
  return values;
}

Linear load_linear(const BlockGraph& block, const Op& op, const WeightSource& source,
                   Precision precision) {
  const std::string name = block.full_name(op) + ".weight";
  std::vector<float> bias;
  if (op.bias) bias = load_vector(source, block.full_name(op) + ".bias");
  return source.is_compressed(name)
             ? Linear::compressed(source.compressed(name), std::move(bias), precision)
             : Linear::dense(source.dense(name), name, std::move(bias), precision);
}

BlockWeights load_block(const BlockGraph& block, const WeightSource& source, Precision precision) {
  BlockWeights weights;
  weights.linears.resize(block.ops.size());
  weights.norms.resize(block.ops.size());
  for (size_t i = 0; i < block.ops.size(); ++i) {
    const Op& op = block.ops[i];
    if (op.kind == OpKind::kRmsNorm) {
      weights.norms[i] = load_vector(source, block.full_name(op) + ".weight");
    } else if (op.kind == OpKind::kLinear) {
      weights.linears[i] = load_linear(block, op, source, precision);
    }
  }
  source.release(block_tensors(block));
  return weights;
}

BlockWorkspace::BlockWorkspace(const BlockGraph& block, int64_t sequence_length, int64_t max_rows,
                               Precision precision)
    : cache_(block.attention, sequence_length, precision) {
  const int64_t rows = padded_rows(std::min(kChunkTokens, max_rows));
  values_.resize(block.widths.size());
  for (size_t i = 1; i < values_.size(); ++i) {
    values_[i].resize(static_cast<size_t>(rows * block.widths[i]));
  }
}

BlockRunner::BlockRunner(const BlockGraph& block, const BlockWeights& weights,
                         const RotaryTable& rotary, Precision precision)
    : block_(block), weights_(weights), rotary_(rotary), attention_(block.attention, precision) {}

void BlockRunner::run(float* hidden, int64_t tokens, BlockWorkspace& workspace,
                      const InputObserver& observer) const {
  const Segment whole{tokens, 0};
  run(hidden, {&whole, 1}, workspace, observer);
}

void BlockRunner::run(float* hidden, std::span<const Segment> segments, BlockWorkspace& workspace,
                      const InputObserver& observer) const {
  run_segments(hidden, segments, workspace, {observer, {}});
}

void BlockRunner::run_edited(float* hidden, int64_t tokens, BlockWorkspace& workspace,
                             const OutputEditor& editor) const {
  const Segment whole{tokens, 0};
  run_segments(hidden, {&whole, 1}, workspace, {{}, editor});
}

void BlockRunner::run_segments(float* hidden, std::span<const Segment> segments,
                               BlockWorkspace& workspace, const Hooks& hooks) const {
  std::vector<Segment> pieces;
  int64_t first = 0;
  int64_t rows = 0;
  const auto flush = [&] {
    if (rows == 0) return;
    run_chunk(hidden + first * block_.widths[0], first, pieces, workspace, hooks);
    first += rows;
    rows = 0;
    pieces.clear();
  };
  for (const Segment& segment : segments) {
    for (int64_t done = 0; done < segment.rows;) {
      const int64_t count = std::min(segment.rows - done, kChunkTokens - rows);
      pieces.push_back({count, segment.position + done});
      done += count;
      rows += count;
      if (rows == kChunkTokens) flush();
    }
  }
  flush();
}

void BlockRunner::run_chunk(float* hidden, int64_t first, std::span<const Segment> pieces,
                            BlockWorkspace& workspace, const Hooks& hooks) const {
  int64_t rows = 0;
  for (const Segment& piece : pieces) rows += piece.rows;
  const auto value = [&](int number) {
    return number == 0 ? hidden : workspace.values_[static_cast<size_t>(number)].data();
  };
  const auto width = [&](int number) { return block_.widths[static_cast<size_t>(number)]; };
  // What workspace.input_ holds now: consecutive linears on one value often share it.
  int prepared_value = -1;
  const Linear* prepared_for = nullptr;

  for (size_t i = 0; i < block_.ops.size(); ++i) {
    const Op& op = block_.ops[i];
    const int in = op.inputs[0];
    float* out = value(op.output);
    const auto out_size = static_cast<size_t>(rows * width(op.output));
    if (op.kind != OpKind::kLinear) prepared_value = -1;
    switch (op.kind) {
      case OpKind::kRmsNorm:
        for (int64_t row = 0; row < rows; ++row) {
          const auto n = static_cast<size_t>(width(in));
          rms_norm_row({value(in) + row * width(in), n}, weights_.norms[i], block_.norm_epsilon,
                       {out + row * width(in), n});
        }
        break;
      case OpKind::kLinear: {
        const Linear& linear = weights_.linears[i];
        if (prepared_value != in) {
          if (hooks.observer) hooks.observer(in, first, rows, value(in));
          prepared_for = nullptr;
        }
        if (prepared_for == nullptr || !(prepared_for->input_format() == linear.input_format())) {
          linear.prepare(value(in), rows, workspace.input_);
          prepared_for = &linear;
        }
        prepared_value = in;
        linear.multiply(workspace.input_, out);
        if (hooks.editor) hooks.editor(i, rows, value(in), out);
        break;
      }
      case OpKind::kRotary:
        rotate_pieces(block_.rotary, rotary_, pieces, width(in), value(in));
        break;
      case OpKind::kAttention:
        attend(pieces, {value(in), value(op.inputs[1]), value(op.inputs[2]), out}, workspace);
        break;
      case OpKind::kGatedActivation:
        gated_activation(op.activation, {value(in), out_size}, {value(op.inputs[1]), out_size},
                         {out, out_size});
        break;
      case OpKind::kAddResidual:
        add_in_place({out, out_size}, {value(in), out_size});
        break;
    }
  }
}

void BlockRunner::attend(std::span<const Segment> pieces, AttentionValues values,
                         BlockWorkspace& workspace) const {
  const AttentionShape& shape = block_.attention;
  for (const Segment& piece : pieces) {
    workspace.cache_.truncate(piece.position);
    workspace.cache_.append(values.k, values.v, piece.rows);
    attention_.run(values.q, piece.rows, piece.position, workspace.cache_, values.out,
                   workspace.attention_);
    values.q += piece.rows * shape.heads * shape.head_dim;
    values.out += piece.rows * shape.heads * shape.head_dim;
    values.k += piece.rows * shape.kv_heads * shape.head_dim;
    values.v += piece.rows * shape.kv_heads * shape.head_dim;
  }
}

}  // namespace pare
