// The block that Llama made common: attention with grouped queries and rotary positions, a gated
// MLP, an RMS norm before each. Mistral, Qwen, Mixtral, gpt-oss and others differ in details.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "model/architectures/transformer_config.h"
#include "model/block_builder.h"
#include "model/block_graph.h"

namespace pare {

struct LlamaAttention {
  bool qkv_bias = false;
  bool output_bias = false;
  std::optional<NormSpec> head_norm;  ///< q_norm and k_norm on each head, before rotation.
  bool rotates = true;                ///< False: no positions (Jamba).
  RotaryShape rotary;
  AttentionSpec attention;
  std::string sinks;  ///< Name of the parameter; empty: none
};

/// o(attention(rotary(q(x)), rotary(k(x)), v(x))), parameters under "self_attn.".
Value llama_attention(BlockBuilder& b, Value x, const LlamaAttention& spec);

/// x + mlp(norm(x + attention(norm(x)))), with norms "input_layernorm" and
/// "post_attention_layernorm". `mlp` gets the normalized stream and gives what is added.
BlockGraph llama_block(BlockBuilder b, const NormSpec& norm, const LlamaAttention& attention,
                       const std::function<Value(BlockBuilder&, Value)>& mlp);

/// Names and norm of a model of this family.
ModelGraph llama_frame(const ConfigReader& config, const TransformerShape& shape,
                       const NormSpec& norm, bool tied_by_default = false);

/// "model.layers.3."
std::string llama_prefix(int64_t layer);

}  // namespace pare
