// GPT-2 (GPT2LMHeadModel), StarCoder and SantaCoder (GPTBigCodeForCausalLM), GPT-NeoX and Pythia
// (GPTNeoXForCausalLM), StarCoder2 (Starcoder2ForCausalLM): layer norms with bias, plain MLPs.
#include <cmath>

#include "model/architectures/families.h"
#include "model/architectures/llama_block.h"
#include "model/architectures/rotary.h"

namespace pare {
namespace {

NormSpec layer_norm(const ConfigReader& config, const char* epsilon_key) {
  return {.centered = true,
          .bias = true,
          .epsilon = static_cast<float>(config.number(epsilon_key, 1e-5))};
}

// GPT-2 and BigCode: learned positions, names under "transformer.h.".
ModelGraph describe_gpt(const ConfigReader& config, TransformerShape shape, bool transposed,
                        bool by_head, const char* activation_name) {
  const NormSpec norm = layer_norm(config, "layer_norm_epsilon");
  const Activation activation = read_activation(config, "activation_function", activation_name);
  shape.intermediate = config.positive("n_inner", 4 * shape.hidden);
  ModelGraph model = make_frame(
      config, shape, {"transformer.wte.weight", "transformer.ln_f", "lm_head.weight"}, norm, true);
  model.embedding.position_kind = PositionKind::kLearned;
  model.embedding.positions = "transformer.wpe.weight";
  model.embedding.position_rows = shape.max_positions;
  AttentionSpec attention = causal_attention(shape);
  if (!config.boolean("scale_attn_weights", true)) attention.shape.scale = 1;
  const float scale = attention.shape.scale;
  const bool by_layer = config.boolean("scale_attn_by_inverse_layer_idx", false);
  const LinearSpec linear{.bias = true, .transposed = transposed};
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    if (by_layer) attention.shape.scale = scale / static_cast<float>(layer + 1);
    BlockBuilder b("transformer.h." + std::to_string(layer) + ".", shape.hidden);
    const Value x = b.norm(b.input(), "ln_1", norm);
    const int64_t width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    const Value fused = b.linear(x, "attn.c_attn", width, linear);
    const Qkv qkv = by_head ? split_qkv_by_group(b, fused, shape) : split_qkv(b, fused, shape);
    const Value out =
        b.linear(b.attention(qkv.q, qkv.k, qkv.v, attention), "attn.c_proj", shape.hidden, linear);
    const Value middle = b.add(b.input(), out);
    const Value y = b.norm(middle, "ln_2", norm);
    const Value inner =
        b.activation(b.linear(y, "mlp.c_fc", shape.intermediate, linear), activation);
    model.blocks.push_back(
        b.finish(b.add(middle, b.linear(inner, "mlp.c_proj", shape.hidden, linear))));
  }
  return model;
}

TransformerShape read_gpt_shape(const ConfigReader& config) {
  return read_shape(config, {.hidden = "n_embd",
                             .layers = "n_layer",
                             .heads = "n_head",
                             .kv_heads = "",
                             .head_dim = "",
                             .intermediate = "",
                             .max_positions = "n_positions"});
}

}  // namespace

ModelGraph describe_gpt2(const ConfigReader& config) {
  if (config.boolean("add_cross_attention", false)) {
    config.fail("GPT-2 with cross attention is not supported");
  }
  return describe_gpt(config, read_gpt_shape(config), true, false, "gelu_new");
}

ModelGraph describe_gpt_bigcode(const ConfigReader& config) {
  TransformerShape shape = read_gpt_shape(config);
  const bool one_key_head = config.boolean("multi_query", true);
  if (one_key_head) shape.kv_heads = 1;
  return describe_gpt(config, shape, false, !one_key_head, "gelu_pytorch_tanh");
}

ModelGraph describe_gpt_neox(const ConfigReader& config) {
  const TransformerShape shape = read_shape(config, {.kv_heads = "", .head_dim = ""});
  const NormSpec norm = layer_norm(config, "layer_norm_eps");
  const Activation activation = read_activation(config, "hidden_act", "gelu");
  ModelGraph model = make_frame(
      config, shape, {"gpt_neox.embed_in.weight", "gpt_neox.final_layer_norm", "embed_out.weight"},
      norm, false);
  const RotaryShape rotary =
      read_rotary(config, shape.head_dim,
                  {.partial = 0.25,
                   .theta_key = config.has("rotary_emb_base") ? "rotary_emb_base" : "rope_theta"});
  const AttentionSpec attention = causal_attention(shape);
  const LinearSpec linear{.bias = config.boolean("attention_bias", true)};
  const bool parallel = config.boolean("use_parallel_residual", true);
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    BlockBuilder b("gpt_neox.layers." + std::to_string(layer) + ".", shape.hidden);
    const Value x = b.norm(b.input(), "input_layernorm", norm);
    const Qkv qkv = split_qkv_by_group(
        b, b.linear(x, "attention.query_key_value", 3 * shape.hidden, linear), shape);
    const Value context =
        b.attention(b.rotary(qkv.q, rotary), b.rotary(qkv.k, rotary), qkv.v, attention);
    const Value out = b.linear(context, "attention.dense", shape.hidden, linear);
    const Value middle = b.add(b.input(), out);
    const Value y = b.norm(parallel ? b.input() : middle, "post_attention_layernorm", norm);
    const Value mlp = plain_mlp(b, y, shape.intermediate, activation, true, "mlp.dense_h_to_4h",
                                "mlp.dense_4h_to_h");
    model.blocks.push_back(b.finish(b.add(middle, mlp)));
  }
  return model;
}

ModelGraph describe_starcoder2(const ConfigReader& config) {
  const TransformerShape shape = read_shape(config);
  const NormSpec norm = layer_norm(config, "norm_epsilon");
  const Activation activation = read_activation(config, "hidden_act", "gelu_pytorch_tanh");
  const bool bias = config.boolean("use_bias", true);
  ModelGraph model = llama_frame(config, shape, norm, true);
  LlamaAttention attention;
  attention.qkv_bias = attention.output_bias = bias;
  attention.rotary = read_rotary(config, shape.head_dim);
  attention.attention = causal_attention(shape);
  attention.attention.shape.window = read_window(config, 0);
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    model.blocks.push_back(llama_block(
        {llama_prefix(layer), shape.hidden}, norm, attention, [&](BlockBuilder& b, Value x) {
          return plain_mlp(b, x, shape.intermediate, activation, bias, "mlp.c_fc", "mlp.c_proj");
        }));
  }
  return model;
}

}  // namespace pare
