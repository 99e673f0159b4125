// A model as data: the operations of each block, in order, over numbered values.
//
// An architecture (model/architectures/) writes this description once; the runner executes it, and
// everything that an algorithm must know about the wiring is derived from it: which linears share
// an input, and what can absorb a scale (model/input_groups.h).
//
// Value 0 of a block is the residual stream, [tokens, hidden]; the other values live for one block.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/attention.h"

namespace pare {

enum class OpKind : uint8_t {
  kRmsNorm,          ///< out = rms_norm(in) × weight
  kLinear,           ///< out = in weightᵀ (+ bias)
  kRotary,           ///< in place: rotates each head of in by its position
  kAttention,        ///< out = attention(q, k, v)
  kGatedActivation,  ///< out = activation(gate) × up
  kAddResidual,      ///< value 0 += in
};

enum class Activation : uint8_t { kSilu, kGeluTanh, kGeluErf };

struct Op {
  OpKind kind = OpKind::kLinear;
  std::string name;         ///< Of the parameters, without block prefix: "self_attn.q_proj".
  std::vector<int> inputs;  ///< Values read.
  int output = 0;           ///< Value written.
  bool bias = false;        ///< kLinear.
  Activation activation = Activation::kSilu;
};

struct RotaryShape {
  int64_t head_dim = 0;                  ///< Width of a head.
  int64_t rotated = 0;                   ///< Channels of it that rotate, from the first on; even.
  std::vector<float> inverse_frequency;  ///< [rotated / 2]
  float attention_factor = 1;            ///< Multiplies cosine and sine.
};

struct BlockGraph {
  std::string prefix;           ///< "model.layers.3."
  std::vector<int64_t> widths;  ///< Of each value; widths[0] is the hidden size.
  std::vector<Op> ops;
  AttentionShape attention;
  RotaryShape rotary;
  float norm_epsilon = 1e-5F;

  /// "model.layers.3.self_attn.q_proj" for an op with parameters.
  std::string full_name(const Op& op) const { return prefix + op.name; }
  /// [out, in] of a linear.
  int64_t out_features(const Op& op) const { return widths[static_cast<size_t>(op.output)]; }
  int64_t in_features(const Op& op) const { return widths[static_cast<size_t>(op.inputs[0])]; }
};

struct ModelGraph {
  std::string architecture;  ///< As in config.json: "LlamaForCausalLM".
  int64_t hidden_size = 0;
  int64_t vocab_size = 0;
  int64_t max_positions = 0;
  std::string embedding;  ///< Full tensor name.
  std::vector<BlockGraph> blocks;
  std::string final_norm;  ///< Full tensor name.
  float norm_epsilon = 1e-5F;
  std::string head;  ///< Full tensor name; the embedding's when they are tied.
};

}  // namespace pare
