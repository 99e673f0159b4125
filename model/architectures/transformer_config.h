// What the configurations of most transformers say in the same words.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/architectures/config_reader.h"
#include "model/block_builder.h"
#include "model/block_graph.h"

namespace pare {

struct TransformerShape {
  int64_t hidden = 0;
  int64_t vocab = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t intermediate = 0;
  int64_t max_positions = 0;
};

/// hidden_size, vocab_size, num_hidden_layers, num_attention_heads, num_key_value_heads, head_dim,
/// intermediate_size, max_position_embeddings, checked against each other.
TransformerShape read_shape(const ConfigReader& config);

/// The same for configurations with other words for them.
struct ShapeKeys {
  const char* hidden = "hidden_size";
  const char* layers = "num_hidden_layers";
  const char* heads = "num_attention_heads";
  const char* kv_heads = "num_key_value_heads";  ///< "": as many as heads
  const char* head_dim = "head_dim";             ///< "": hidden / heads
  const char* intermediate = "intermediate_size";
  const char* max_positions = "max_position_embeddings";
  int64_t default_head_dim = 0;  ///< Where head_dim is absent; 0: hidden / heads
};
TransformerShape read_shape(const ConfigReader& config, const ShapeKeys& keys);

/// Fails for numbers that would make the description itself fill the memory.
void check_layers(const ConfigReader& config, int64_t layers);
void check_heads(const ConfigReader& config, int64_t heads, int64_t kv_heads, int64_t head_dim);

/// The activation that `key` names, `otherwise` when it is absent.
Activation read_activation(const ConfigReader& config, const char* key,
                           const std::string& otherwise);
/// The activation of a name. Fails for unknown ones.
Activation find_activation(const ConfigReader& config, const std::string& name);

/// "layer_types": "sliding_attention" or "full_attention" for each layer; where the key is absent,
/// `slides` says it, unless it is null.
std::vector<bool> read_sliding_layers(const ConfigReader& config, int64_t layers,
                                      bool (*slides)(int64_t layer));

/// "sliding_window": 0 for null, `otherwise` when absent.
int64_t read_window(const ConfigReader& config, int64_t otherwise);

/// Attention of the shape with the usual scale head_dim^−½ and a causal mask.
AttentionSpec causal_attention(const TransformerShape& shape);

/// The frame of a model with one stack: embedding, head on a final norm, tied or not.
struct FrameNames {
  std::string embedding;
  std::string final_norm;  ///< Without ".weight".
  std::string head;        ///< In full, where it is not tied.
};
ModelGraph make_frame(const ConfigReader& config, const TransformerShape& shape,
                      const FrameNames& names, const NormSpec& final_norm, bool tied_by_default);

/// A block with one norm, to end a stack with.
BlockGraph norm_tail(int64_t hidden, const std::string& name, const NormSpec& norm);

/// A block without operations.
BlockGraph no_ops(int64_t hidden);

// Pieces that architectures are made of.

struct Qkv {
  Value q, k, v;
};

/// Of a tensor with all queries, then all keys, then all values.
Qkv split_qkv(BlockBuilder& b, Value fused, const TransformerShape& shape);

/// Of a tensor with the queries of the heads that share a key, then their key and their value; with
/// as many keys as heads: query, key and value of one head after the other.
Qkv split_qkv_by_group(BlockBuilder& b, Value fused, const TransformerShape& shape);

struct GatedMlpNames {
  std::string gate = "mlp.gate_proj";
  std::string up = "mlp.up_proj";
  std::string down = "mlp.down_proj";
};
/// down(activation(gate(x)) × up(x))
Value gated_mlp(BlockBuilder& b, Value x, int64_t intermediate, Activation activation, bool bias,
                const GatedMlpNames& names = {});

/// The same where gate and up are one tensor, gate first.
Value fused_gated_mlp(BlockBuilder& b, Value x, int64_t intermediate, Activation activation,
                      const std::string& gate_up, const std::string& down);

/// down(activation(up(x)))
Value plain_mlp(BlockBuilder& b, Value x, int64_t intermediate, Activation activation, bool bias,
                const std::string& up, const std::string& down);

}  // namespace pare
