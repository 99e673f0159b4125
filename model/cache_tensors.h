// The tensors that say how an attention's keys and values are rounded for its cache, beside the
// attention's linears in a checkpoint (docs/checkpoint.md):
//
//   model.layers.3.self_attn.kv_cache_dtype   "float8_e4m3fn" or "int8", as bytes
//   model.layers.3.self_attn.k_scale          [1], or [kv_heads, 1, 1]
//   model.layers.3.self_attn.v_scale
//   model.layers.3.self_attn.k_bias           [kv_heads, 1, head_dim], with an offset alone
//   model.layers.3.self_attn.v_bias
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/tensor_view.h"
#include "model/block_graph.h"
#include "model/block_weights.h"

namespace pare {

/// What an attention keeps of earlier tokens.
enum class CacheKind : uint8_t {
  kNone,           ///< Nothing: every token sees all others, in one pass.
  kKeysAndValues,  ///< Of each token, or of the encoder's output.
  kLatent,         ///< A vector from which keys and values are made (multi-head latent attention).
};

/// REQUIRES: `op` is an attention of the block.
CacheKind cache_kind(const BlockGraph& block, const Op& op);

/// "model.layers.3.self_attn": where the linear that makes the keys is.
std::string attention_name(const BlockGraph& block, const Op& op);

/// "float8_e4m3fn" or "int8".
std::string_view cache_format_name(CacheFormat format);

struct CacheTensor {
  std::string name;  ///< In full.
  Shape shape;
};

/// Those that the attention's CacheSpec asks for; none without one. The first is the text, the
/// others are FP32: scales of keys and values, then offsets.
std::vector<CacheTensor> cache_tensors(const BlockGraph& block, const Op& op);

/// Sets the CacheSpec of every attention whose text is in the source. Throws
/// Error(kInputMalformed), naming file and tensor, for a text that is not known.
void find_caches(ModelGraph& graph, const WeightSource& source);

/// What the tensors say. Throws Error(kInputMalformed), naming file and tensor, unless they are
/// FP32, scales are positive, normal and finite, and offsets are finite. REQUIRES: check_tensors().
KeyValueFormat load_cache_format(const BlockGraph& block, const Op& op,
                                 const TensorLookup& tensors);

/// load_cache_format() of the whole model, for its errors.
void check_caches(const ModelGraph& graph, const WeightSource& source);

/// Whether any attention has a CacheSpec.
bool has_caches(const ModelGraph& graph);

/// "none", "fp8" or "int8"; "fp8+int8" where layers differ.
std::string cache_label(const ModelGraph& graph);

}  // namespace pare
