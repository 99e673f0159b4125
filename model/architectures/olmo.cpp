// OLMo 2 (Olmo2ForCausalLM; Team OLMo, 2024, arXiv:2501.00656): Llama's parts with the norms behind
// attention and MLP instead of before them, and norms over all queries and all keys of a token.
#include "model/architectures/families.h"
#include "model/architectures/llama_block.h"
#include "model/architectures/rotary.h"

namespace pare {

ModelGraph describe_olmo2(const ConfigReader& config) {
  const TransformerShape shape = read_shape(config);
  const NormSpec norm{.epsilon = static_cast<float>(config.number("rms_norm_eps", 1e-5))};
  const Activation activation = read_activation(config, "hidden_act", "silu");
  const LinearSpec linear{.bias = config.boolean("attention_bias", false)};
  const RotaryShape rotary = read_rotary(config, shape.head_dim);
  const AttentionSpec attention = causal_attention(shape);
  ModelGraph model = llama_frame(config, shape, norm);
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    BlockBuilder b(llama_prefix(layer), shape.hidden);
    const Value x = b.input();
    const int64_t kv_width = shape.kv_heads * shape.head_dim;
    Value q = b.linear(x, "self_attn.q_proj", shape.heads * shape.head_dim, linear);
    Value k = b.linear(x, "self_attn.k_proj", kv_width, linear);
    const Value v = b.linear(x, "self_attn.v_proj", kv_width, linear);
    q = b.rotary(b.norm(q, "self_attn.q_norm", norm), rotary);
    k = b.rotary(b.norm(k, "self_attn.k_norm", norm), rotary);
    const Value context = b.attention(q, k, v, attention);
    const Value out = b.linear(context, "self_attn.o_proj", shape.hidden, linear);
    const Value middle = b.add(x, b.norm(out, "post_attention_layernorm", norm));
    const Value mlp = gated_mlp(b, middle, shape.intermediate, activation, false);
    model.blocks.push_back(
        b.finish(b.add(middle, b.norm(mlp, "post_feedforward_layernorm", norm))));
  }
  return model;
}

}  // namespace pare
