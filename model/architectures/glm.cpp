// GLM and GLM-4, ChatGLM's successors in Hugging Face form (GlmForCausalLM, Glm4ForCausalLM), and
// Phi-3 (Phi3ForCausalLM): gate and up in one tensor.
#include "model/architectures/families.h"
#include "model/architectures/llama_block.h"
#include "model/architectures/rotary.h"

namespace pare {
namespace {

ModelGraph describe_either_glm(const ConfigReader& config, bool norms_behind) {
  const TransformerShape shape =
      read_shape(config, {.default_head_dim = 128});  // what GlmConfig has
  const NormSpec norm{.epsilon = static_cast<float>(config.number("rms_norm_eps", 1.5625e-7))};
  const Activation activation = read_activation(config, "hidden_act", "silu");
  ModelGraph model = llama_frame(config, shape, norm);
  LlamaAttention attention;
  attention.qkv_bias = config.boolean("attention_bias", true);
  attention.rotary = read_rotary(config, shape.head_dim, {.partial = 0.5});
  attention.rotary.interleaved = true;
  attention.attention = causal_attention(shape);
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    BlockBuilder b(llama_prefix(layer), shape.hidden);
    const Value x = b.norm(b.input(), "input_layernorm", norm);
    Value out = llama_attention(b, x, attention);
    if (norms_behind) out = b.norm(out, "post_self_attn_layernorm", norm);
    const Value middle = b.add(b.input(), out);
    const Value y = b.norm(middle, "post_attention_layernorm", norm);
    Value mlp =
        fused_gated_mlp(b, y, shape.intermediate, activation, "mlp.gate_up_proj", "mlp.down_proj");
    if (norms_behind) mlp = b.norm(mlp, "post_mlp_layernorm", norm);
    model.blocks.push_back(b.finish(b.add(middle, mlp)));
  }
  return model;
}

}  // namespace

ModelGraph describe_glm(const ConfigReader& config) { return describe_either_glm(config, false); }

ModelGraph describe_glm4(const ConfigReader& config) { return describe_either_glm(config, true); }

ModelGraph describe_phi3(const ConfigReader& config) {
  const TransformerShape shape = read_shape(config);
  const NormSpec norm{.epsilon = static_cast<float>(config.number("rms_norm_eps", 1e-5))};
  const Activation activation = read_activation(config, "hidden_act", "silu");
  ModelGraph model = llama_frame(config, shape, norm);
  const RotaryShape rotary = read_rotary(config, shape.head_dim);
  AttentionSpec attention = causal_attention(shape);
  attention.shape.window = read_window(config, 0);
  const int64_t q_width = shape.heads * shape.head_dim;
  const int64_t kv_width = shape.kv_heads * shape.head_dim;
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    BlockBuilder b(llama_prefix(layer), shape.hidden);
    const Value x = b.norm(b.input(), "input_layernorm", norm);
    const Value qkv = b.linear(x, "self_attn.qkv_proj", q_width + 2 * kv_width);
    const Qkv parts = split_qkv(b, qkv, shape);
    const Value q = b.rotary(parts.q, rotary);
    const Value k = b.rotary(parts.k, rotary);
    const Value out =
        b.linear(b.attention(q, k, parts.v, attention), "self_attn.o_proj", shape.hidden);
    const Value middle = b.add(b.input(), out);
    const Value y = b.norm(middle, "post_attention_layernorm", norm);
    const Value mlp =
        fused_gated_mlp(b, y, shape.intermediate, activation, "mlp.gate_up_proj", "mlp.down_proj");
    model.blocks.push_back(b.finish(b.add(middle, mlp)));
  }
  return model;
}

}  // namespace pare
