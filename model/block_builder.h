// Writes a block's description, operation by operation, in the order of the model's own code.
//
//   BlockBuilder b("model.layers.0.", hidden_size);
//   const Value x = b.norm(b.input(), "input_layernorm", {.epsilon = 1e-6F});
//   const Value q = b.linear(x, "self_attn.q_proj", heads * head_dim);
//   …
//   model.blocks.push_back(b.finish(b.add(b.input(), out)));
//
// Not safe from several threads.
#pragma once

#include <string>
#include <vector>

#include "model/block_graph.h"

namespace pare {

/// A value of the block that is being built.
struct Value {
  int number = 0;
};

class BlockBuilder {
 public:
  BlockBuilder(std::string prefix, int64_t hidden_size);

  Value input() const { return {0}; }
  /// The encoder's output; the first call declares that the block reads it.
  Value memory(int64_t width);

  Value norm(Value in, const std::string& name, const NormSpec& spec);
  Value linear(Value in, const std::string& name, int64_t out_features,
               const LinearSpec& spec = {});
  /// Channels [begin, begin + count).
  Value slice(Value in, int64_t begin, int64_t count);
  /// Of each run of `stride` channels, `count` from the `begin`-th on.
  Value slice_runs(Value in, const SliceSpec& spec);
  /// Each of the heads of `each`, and behind it the one head of `shared`.
  Value join_heads(Value each, Value shared, int64_t heads);
  Value rotary(Value in, const RotaryShape& shape);
  Value clamp(Value in, float limit);
  Value activation(Value in, Activation activation);
  Value gated(Activation activation, Value gate, Value up);
  Value add(Value a, Value b);
  /// `name` is that of its parameters, if it has some (sinks).
  Value attention(Value q, Value k, Value v, const AttentionSpec& spec,
                  const std::string& name = {});
  Value convolution(Value in, const std::string& name, const ConvolutionSpec& spec);
  /// `name` is the prefix of the parameters A_log, D (and dt_bias): "mixer."
  Value selective_scan(Value x, Value dt, Value b, Value c, const std::string& name,
                       const ScanSpec& spec);
  Value state_space_scan(Value x, Value dt, Value b, Value c, const std::string& name,
                         const ScanSpec& spec);
  Value experts(Value in, Value router_logits, const ExpertsSpec& spec);

  int64_t width(Value value) const { return block_.width(value.number); }

  /// The description; the builder is empty afterwards.
  BlockGraph finish(Value output);

 private:
  Value push(Op op, int64_t width);

  BlockGraph block_;
};

}  // namespace pare
