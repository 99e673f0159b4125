#include "model/architectures/llama_block.h"

namespace pare {

Value llama_attention(BlockBuilder& b, Value x, const LlamaAttention& spec) {
  const AttentionShape& shape = spec.attention.shape;
  const LinearSpec qkv{.bias = spec.qkv_bias};
  Value q = b.linear(x, "self_attn.q_proj", shape.heads * shape.head_dim, qkv);
  Value k = b.linear(x, "self_attn.k_proj", shape.kv_heads * shape.head_dim, qkv);
  const Value v = b.linear(x, "self_attn.v_proj", shape.kv_heads * shape.value_width(), qkv);
  if (spec.head_norm) {
    NormSpec norm = *spec.head_norm;
    norm.width = shape.head_dim;
    q = b.norm(q, "self_attn.q_norm", norm);
    k = b.norm(k, "self_attn.k_norm", norm);
  }
  if (spec.rotates) {
    q = b.rotary(q, spec.rotary);
    k = b.rotary(k, spec.rotary);
  }
  const Value context = b.attention(q, k, v, spec.attention, spec.sinks);
  return b.linear(context, "self_attn.o_proj", b.width(x), {.bias = spec.output_bias});
}

BlockGraph llama_block(BlockBuilder b, const NormSpec& norm, const LlamaAttention& attention,
                       const std::function<Value(BlockBuilder&, Value)>& mlp) {
  const Value x = b.norm(b.input(), "input_layernorm", norm);
  const Value middle = b.add(b.input(), llama_attention(b, x, attention));
  const Value y = b.norm(middle, "post_attention_layernorm", norm);
  return b.finish(b.add(middle, mlp(b, y)));
}

ModelGraph llama_frame(const ConfigReader& config, const TransformerShape& shape,
                       const NormSpec& norm, bool tied_by_default) {
  return make_frame(config, shape, {"model.embed_tokens.weight", "model.norm", "lm_head.weight"},
                    norm, tied_by_default);
}

std::string llama_prefix(int64_t layer) { return "model.layers." + std::to_string(layer) + "."; }

}  // namespace pare
