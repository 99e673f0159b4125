// A model as data: the operations of each block, in order, over numbered values.
//
// An architecture (model/architectures/) writes this description once, with BlockBuilder; the
// runner executes it, and everything that an algorithm must know about the wiring is derived from
// it: which linears share an input, and what can absorb a scale (model/input_groups.h).
//
// A value is written once. Value 0 is the block's input, the residual stream [tokens, hidden];
// BlockGraph::output is what the block makes of it, of the same width. In decoder blocks of
// encoder-decoder models BlockGraph::memory is the encoder's output, [source tokens, width].
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/attention.h"

namespace pare {

enum class OpKind : uint8_t {
  kNorm,             ///< out = norm(in), over all channels or over each head
  kLinear,           ///< out = in weightᵀ (+ bias)
  kSlice,            ///< out = some channels of in, in order
  kJoinHeads,        ///< out = each head of in[0] with the one head of in[1] behind it
  kRotary,           ///< out = in with each head rotated by its position
  kClamp,            ///< out = in, limited to ±limit
  kActivation,       ///< out = activation(in)
  kGatedActivation,  ///< out = activation(in[0]) × in[1]
  kAdd,              ///< out = in[0] + in[1]
  kAttention,        ///< out = attention(q, k, v)
  kConvolution,      ///< out = depthwise causal convolution of in over time
  kSelectiveScan,    ///< out = Mamba's scan of (x, dt, B, C)
  kStateSpaceScan,   ///< out = Mamba-2's scan of (x, dt, B, C)
  kExperts,          ///< out = sum of the chosen experts of in[0]; in[1] are the router's logits
};

enum class Activation : uint8_t {
  kSilu,
  kGeluTanh,
  kGeluErf,
  kQuickGelu,
  kRelu,
  kReluSquared,
  kClampedSwiglu,  ///< Gated only: (up + 1) · gate · sigmoid(1.702 gate), both clamped (gpt-oss).
};

struct NormSpec {
  bool centered = false;    ///< Layer norm: the mean is taken off. Otherwise RMS norm.
  bool weight = true;       ///< Has a weight "name.weight".
  bool bias = false;        ///< Has a bias "name.bias".
  float weight_offset = 0;  ///< Added to the stored weight: 1 for Gemma and Nemotron.
  float epsilon = 1e-5F;
  int64_t width = 0;  ///< Channels normalized together (a head); 0: all.
};

struct LinearSpec {
  bool bias = false;
  bool transposed = false;   ///< Stored densely as [in, out] (GPT-2's Conv1D, fused experts).
  bool keep = false;         ///< Never compressed unless asked for by name: routers, tiny ones.
  int64_t adapter_rank = 0;  ///< Of a LoRA adapter beside it; 0: none
  bool wide = false;  ///< In FP32 whatever the precision: routers, where little decides much.
};

/// Channel g·count + i of the output is channel g·stride + begin + i of the input.
struct SliceSpec {
  int64_t begin = 0;
  int64_t count = 0;
  int64_t stride = 0;

  int64_t source(int64_t channel) const {
    return channel / count * stride + begin + channel % count;
  }
};

struct RotaryShape {
  int64_t head_dim = 0;      ///< Width of a head.
  int64_t first = 0;         ///< Channels of it that are left alone before those that rotate.
  int64_t rotated = 0;       ///< Channels that rotate; even.
  bool interleaved = false;  ///< Pairs (0, 1), (2, 3) …; otherwise (0, n/2), (1, n/2 + 1) …
  std::vector<float> inverse_frequency;  ///< [rotated / 2]
  float attention_factor = 1;            ///< Multiplies cosine and sine.
  /// Frequencies of sequences longer than `short_positions`, and where those begin; or empty.
  std::vector<float> long_inverse_frequency;
  int64_t short_positions = 0;
  /// Dynamic NTK scaling of sequences longer than `short_positions`; 0: none.
  double ntk_theta = 0;
  double ntk_factor = 1;
};

/// Linear biases (Press et al., 2021, arXiv:2108.12409), as the models' own code rounds them.
struct AlibiSpec {
  std::vector<float> slopes;  ///< [heads]; empty: none
  bool bf16 = false;          ///< Slopes and products rounded to bfloat16 (Falcon).
  float scale = 1;            ///< Multiplies the products.
};

/// T5's bias by distance (Raffel et al., 2019, arXiv:1910.10683).
struct RelativeBiasSpec {
  std::string table;   ///< Full tensor name, [buckets, heads]; empty: none
  bool owned = false;  ///< The tensor counts as this block's.
  bool bidirectional = false;
  int64_t buckets = 32;
  int64_t max_distance = 128;
};

/// How an attention's cache is stored: the tensors of model/cache_tensors.h.
struct CacheSpec {
  CacheFormat format = CacheFormat::kNone;
  bool per_head = false;  ///< A scale for each head of keys and values, else one for all.
  bool affine = false;    ///< With an offset for each channel.
};

struct AttentionSpec {
  AttentionShape shape;
  AlibiSpec alibi;
  RelativeBiasSpec relative_bias;
  bool sinks = false;   ///< Has "name", [heads]: a logit that takes part in the softmax.
  bool memory = false;  ///< Keys and values come from the encoder's output.
  CacheSpec cache;
};

struct ConvolutionSpec {
  int64_t kernel = 0;
  bool bias = true;
};

struct ScanSpec {
  int64_t state_size = 0;
  int64_t heads = 0;  ///< kStateSpaceScan only, with all below.
  int64_t head_dim = 0;
  int64_t groups = 1;
  float step_min = 0;  ///< dt is limited to this range, after softplus.
  float step_max = 0;  ///< 0: no limit
};

enum class Routing : uint8_t {
  kSoftmax,          ///< Softmax over all, then the largest (Mixtral, Qwen, Jamba).
  kSoftmaxOfChosen,  ///< The largest, then softmax over them (gpt-oss).
  kSigmoidGroups,    ///< Sigmoid with a correction, in the best groups (DeepSeek-V3).
};

struct BlockGraph;

/// Where a parameter of all experts lies when a file has them in one tensor, [experts, …].
struct FusedExperts {
  std::string parameter;  ///< Of an expert: "w1.weight".
  std::string stored;     ///< Without block prefix: "mlp.experts.gate_up_proj".
  int64_t part = 0;       ///< Which of `parts` equal parts of an expert's rows it is.
  int64_t parts = 1;
};

struct ExpertsSpec {
  int64_t count = 0;
  int64_t chosen = 0;  ///< Experts a token.
  Routing routing = Routing::kSoftmax;
  bool normalize = false;     ///< Weights of the chosen are divided by their sum.
  float scale = 1;            ///< Then multiplied by this.
  int64_t groups = 1;         ///< kSigmoidGroups: groups of experts, of which …
  int64_t chosen_groups = 1;  ///< … so many are in the choice.
  std::string correction;     ///< Parameter name, [count], added for the choice; empty: none
  std::string expert_prefix;  ///< "mlp.experts.": expert 3 is "<block prefix>mlp.experts.3."
  std::shared_ptr<const BlockGraph> expert;  ///< Of any expert; its prefix is not set.
  std::vector<FusedExperts> fused;           ///< The other way in which files store them; or empty
};

struct Op {
  OpKind kind = OpKind::kLinear;
  std::string name;         ///< Of the parameters, without block prefix: "self_attn.q_proj".
  std::vector<int> inputs;  ///< Values read.
  int output = 0;           ///< Value written.
  NormSpec norm = {};
  LinearSpec linear = {};
  SliceSpec slice = {};
  int64_t heads = 0;  ///< kJoinHeads
  float limit = 0;    ///< kClamp
  Activation activation = Activation::kSilu;
  int detail = 0;  ///< Index into the block's attentions, rotaries, convolutions, scans.
};

struct BlockGraph {
  std::string prefix;           ///< "model.layers.3."
  std::vector<int64_t> widths;  ///< Of each value; widths[0] is the hidden size.
  std::vector<Op> ops;
  int output = 0;   ///< Value that leaves the block.
  int memory = -1;  ///< Value that holds the encoder's output; −1: none
  std::vector<AttentionSpec> attentions;
  std::vector<RotaryShape> rotaries;
  std::vector<ConvolutionSpec> convolutions;
  std::vector<ScanSpec> scans;
  std::optional<ExpertsSpec> experts;  ///< Of the kExperts op, at most one.

  /// "model.layers.3.self_attn.q_proj" for an op with parameters.
  std::string full_name(const Op& op) const { return prefix + op.name; }
  int64_t width(int value) const { return widths[static_cast<size_t>(value)]; }
  /// [out, in] of a linear.
  int64_t out_features(const Op& op) const { return width(op.output); }
  int64_t in_features(const Op& op) const { return width(op.inputs[0]); }
  /// Whether every token attends to all others, so that a sequence cannot be cut into chunks.
  bool bidirectional() const {
    for (const AttentionSpec& attention : attentions) {
      if (!attention.memory && !attention.shape.causal) return true;
    }
    return false;
  }
};

/// Expert number `index` of a block that has experts, as a block of its own.
BlockGraph expert_block(const BlockGraph& block, int64_t index);

enum class PositionKind : uint8_t { kNone, kLearned, kSinusoidal };

/// From token ids to the first block's input.
struct EmbeddingSpec {
  std::string tokens;  ///< Full tensor name, [vocab, width]
  int64_t vocab_size = 0;
  int64_t width = 0;
  float scale = 1;
  bool scale_rounded = false;  ///< In BF16 the scale is rounded to bfloat16 (Gemma).
  PositionKind position_kind = PositionKind::kNone;
  /// Full tensor name, [position_rows, width]. Sinusoids need not be stored.
  std::string positions;
  int64_t position_rows = 0;
  int64_t position_offset = 0;        ///< Row of position 0.
  bool positions_after_stem = false;  ///< They are as wide as what the stem makes then.
  BlockGraph stem;  ///< Applied to each token then: a norm, a projection. May have no ops.

  int64_t position_width() const { return positions_after_stem ? stem.width(stem.output) : width; }
};

/// From the last block's output to logits.
struct HeadSpec {
  BlockGraph tail;     ///< Applied to each token first: the final norm, a projection. May be empty.
  std::string matrix;  ///< Full tensor name, [vocab, width of the tail's output]
  std::string own_matrix;  ///< Used instead where the file has it (T5); or empty
  std::string bias;        ///< Full tensor name, [vocab] or [1, vocab]; empty: none
  float scale = 1;         ///< Multiplies the matrix's input.
  float logit_scale = 1;
  float soft_cap = 0;  ///< > 0: logits become cap·tanh(logit / cap).
};

/// What reads the source text of an encoder-decoder model.
struct EncoderGraph {
  EmbeddingSpec embedding;
  std::vector<BlockGraph> blocks;
  BlockGraph tail;
};

/// ModelGraph::decoder_start of models whose targets name their language in the last token, which
/// moves to the front (mBART).
inline constexpr int32_t kLastTargetToken = -2;

struct ModelGraph {
  std::string architecture;  ///< As in config.json: "LlamaForCausalLM".
  int64_t hidden_size = 0;
  int64_t vocab_size = 0;     ///< Of the logits.
  int64_t max_positions = 0;  ///< As trained; 0: no limit
  EmbeddingSpec embedding;
  std::vector<BlockGraph> blocks;
  HeadSpec head;
  std::optional<EncoderGraph> encoder;
  /// Token in front of every target, or kLastTargetToken; −1 for a model without encoder.
  int32_t decoder_start = -1;
};

}  // namespace pare
