// Models with linear biases instead of positions: BLOOM (BloomForCausalLM) and MPT
// (MptForCausalLM).
#include <cmath>

#include "model/architectures/families.h"
#include "model/architectures/transformer_config.h"
#include "model/position_tables.h"

namespace pare {
namespace {

// MPT's own slopes: of the next power of two, every second first.
std::vector<float> mpt_slopes(int64_t heads, double bias_max) {
  const double power = std::exp2(std::ceil(std::log2(static_cast<double>(heads))));
  std::vector<float> all;
  for (double i = 1; i <= power; ++i) {
    all.push_back(1 / static_cast<float>(std::exp2(i * (bias_max / power))));
  }
  if (static_cast<int64_t>(all.size()) == heads) return all;
  std::vector<float> slopes;
  for (size_t i = 1; i < all.size(); i += 2) slopes.push_back(all[i]);
  for (size_t i = 0; i < all.size(); i += 2) slopes.push_back(all[i]);
  slopes.resize(static_cast<size_t>(heads));
  return slopes;
}

}  // namespace

ModelGraph describe_bloom(const ConfigReader& config) {
  const bool old_hidden = !config.has("hidden_size");
  const TransformerShape shape =
      read_shape(config, {.hidden = old_hidden ? "n_embed" : "hidden_size",
                          .layers = config.has("n_layer") ? "n_layer" : "num_hidden_layers",
                          .heads = config.has("n_head") ? "n_head" : "num_attention_heads",
                          .kv_heads = "",
                          .head_dim = "",
                          .intermediate = "",
                          .max_positions = "seq_length"});
  const NormSpec norm{.centered = true,
                      .bias = true,
                      .epsilon = static_cast<float>(config.number("layer_norm_epsilon", 1e-5))};
  ModelGraph model = make_frame(
      config, shape, {"transformer.word_embeddings.weight", "transformer.ln_f", "lm_head.weight"},
      norm, true);
  if (!config.has("seq_length")) model.max_positions = 0;
  model.embedding.stem = norm_tail(shape.hidden, "transformer.word_embeddings_layernorm", norm);
  AttentionSpec attention = causal_attention(shape);
  attention.alibi.slopes = alibi_slopes(shape.heads);
  const bool after_norm = config.boolean("apply_residual_connection_post_layernorm", false);
  const LinearSpec linear{.bias = true};
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    BlockBuilder b("transformer.h." + std::to_string(layer) + ".", shape.hidden);
    const Value x = b.norm(b.input(), "input_layernorm", norm);
    const Value qkv = b.linear(x, "self_attention.query_key_value", 3 * shape.hidden, linear);
    const auto [q, k, v] = split_qkv_by_group(b, qkv, shape);
    const Value out =
        b.linear(b.attention(q, k, v, attention), "self_attention.dense", shape.hidden, linear);
    const Value middle = b.add(after_norm ? x : b.input(), out);
    const Value y = b.norm(middle, "post_attention_layernorm", norm);
    const Value mlp = plain_mlp(b, y, 4 * shape.hidden, Activation::kGeluTanh, true,
                                "mlp.dense_h_to_4h", "mlp.dense_4h_to_h");
    model.blocks.push_back(b.finish(b.add(after_norm ? y : middle, mlp)));
  }
  return model;
}

ModelGraph describe_mpt(const ConfigReader& config) {
  const TransformerShape shape = read_shape(config, {.hidden = "d_model",
                                                     .layers = "n_layers",
                                                     .heads = "n_heads",
                                                     .kv_heads = "",
                                                     .head_dim = "",
                                                     .intermediate = "",
                                                     .max_positions = "max_seq_len"});
  const nlohmann::json nothing = nlohmann::json::object();
  const ConfigReader attention_config(
      config.has("attn_config") ? config.json().at("attn_config") : nothing, config.origin());
  if (!attention_config.json().is_object()) config.fail("\"attn_config\" is not an object");
  if (!config.boolean("no_bias", true) || attention_config.boolean("qk_ln", false) ||
      attention_config.boolean("prefix_lm", false) || !attention_config.boolean("alibi", true)) {
    config.fail("MPT is supported with no_bias and alibi, without qk_ln and prefix_lm");
  }
  const NormSpec norm{.centered = true,
                      .epsilon = static_cast<float>(config.number("layer_norm_epsilon", 1e-5))};
  ModelGraph model =
      make_frame(config, shape, {"transformer.wte.weight", "transformer.norm_f", "lm_head.weight"},
                 norm, true);
  AttentionSpec attention = causal_attention(shape);
  attention.shape.scale = static_cast<float>(
      attention_config.number("softmax_scale", static_cast<double>(attention.shape.scale)));
  attention.alibi.slopes = mpt_slopes(shape.heads, attention_config.number("alibi_bias_max", 8));
  const auto clip = static_cast<float>(attention_config.number("clip_qkv", 0));
  const int64_t inner =
      4 * shape.hidden;  // whatever "expansion_ratio" says, as transformers has it
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    BlockBuilder b("transformer.blocks." + std::to_string(layer) + ".", shape.hidden);
    const Value x = b.norm(b.input(), "norm_1", norm);
    Value qkv = b.linear(x, "attn.Wqkv", 3 * shape.hidden);
    if (clip > 0) qkv = b.clamp(qkv, clip);
    const auto [q, k, v] = split_qkv(b, qkv, shape);
    const Value out = b.linear(b.attention(q, k, v, attention), "attn.out_proj", shape.hidden);
    const Value middle = b.add(b.input(), out);
    const Value y = b.norm(middle, "norm_2", norm);
    const Value mlp =
        plain_mlp(b, y, inner, Activation::kGeluErf, false, "ffn.up_proj", "ffn.down_proj");
    model.blocks.push_back(b.finish(b.add(middle, mlp)));
  }
  return model;
}

}  // namespace pare
