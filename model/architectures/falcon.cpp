// Falcon in its three forms (FalconForCausalLM, RWForCausalLM): 7B (one key head, parallel halves),
// 40B and 180B (grouped keys, a norm for each half), RW (linear biases, serial).
#include <cmath>

#include "model/architectures/families.h"
#include "model/architectures/rotary.h"
#include "model/architectures/transformer_config.h"
#include "model/position_tables.h"

namespace pare {
namespace {

struct FalconTraits {
  bool grouped = false;      ///< "new_decoder_architecture"
  bool one_key_head = true;  ///< "multi_query"
  bool parallel = true;
  bool two_norms = false;
  bool bias = false;
  bool alibi = false;
};

const char* either(const ConfigReader& config, const char* newer, const char* older) {
  return config.has(newer) ? newer : older;
}

FalconTraits read_traits(const ConfigReader& config) {
  FalconTraits traits;
  // The first 40B was published under this type, without the key.
  const bool first_40b = config.text("model_type", "") == "RefinedWeb";
  traits.grouped = config.boolean("new_decoder_architecture", first_40b);
  traits.one_key_head = config.boolean("multi_query", true);
  traits.parallel = config.boolean("parallel_attn", true);
  traits.two_norms =
      traits.grouped && traits.parallel && config.positive("num_ln_in_parallel_attn", 2) == 2;
  traits.bias = config.boolean("bias", false);
  traits.alibi = config.boolean("alibi", false);
  if (traits.grouped && !traits.parallel) {
    config.fail("new_decoder_architecture without parallel_attn is not supported");
  }
  return traits;
}

TransformerShape read_falcon_shape(const ConfigReader& config, const FalconTraits& traits) {
  TransformerShape shape =
      read_shape(config, {.layers = either(config, "num_hidden_layers", "n_layer"),
                          .heads = either(config, "num_attention_heads", "n_head"),
                          .kv_heads = "",
                          .head_dim = "",
                          .intermediate = ""});
  shape.intermediate = config.positive("ffn_hidden_size", 4 * shape.hidden);
  if (traits.grouped) {
    shape.kv_heads = config.positive(either(config, "num_kv_heads", "n_head_kv"), shape.heads);
  } else if (traits.one_key_head) {
    shape.kv_heads = 1;
  }
  check_heads(config, shape.heads, shape.kv_heads, shape.head_dim);
  return shape;
}

}  // namespace

ModelGraph describe_falcon(const ConfigReader& config) {
  const FalconTraits traits = read_traits(config);
  const TransformerShape shape = read_falcon_shape(config, traits);
  const NormSpec norm{.centered = true,
                      .bias = true,
                      .epsilon = static_cast<float>(config.number("layer_norm_epsilon", 1e-5))};
  ModelGraph model = make_frame(
      config, shape, {"transformer.word_embeddings.weight", "transformer.ln_f", "lm_head.weight"},
      norm, true);
  const LinearSpec bias{.bias = traits.bias};
  const Activation activation = read_activation(config, "activation", "gelu");
  AttentionSpec attention = causal_attention(shape);
  RotaryShape rotary;
  if (traits.alibi) {
    // The biases are scaled with the scores. Added once, as the models were trained and as engines
    // do; the eager attention of transformers adds them twice (once in its mask), its sdpa once.
    attention.alibi = {
        .slopes = alibi_slopes(shape.heads), .bf16 = true, .scale = attention.shape.scale};
  } else {
    rotary = read_rotary(config, shape.head_dim);
  }
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    BlockBuilder b("transformer.h." + std::to_string(layer) + ".", shape.hidden);
    const Value x = b.norm(b.input(), traits.two_norms ? "ln_attn" : "input_layernorm", norm);
    const int64_t width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    Qkv qkv =
        split_qkv_by_group(b, b.linear(x, "self_attention.query_key_value", width, bias), shape);
    if (!traits.alibi) {
      qkv.q = b.rotary(qkv.q, rotary);
      qkv.k = b.rotary(qkv.k, rotary);
    }
    const Value out = b.linear(b.attention(qkv.q, qkv.k, qkv.v, attention), "self_attention.dense",
                               shape.hidden, bias);
    const auto mlp = [&](Value y) {
      return plain_mlp(b, y, shape.intermediate, activation, traits.bias, "mlp.dense_h_to_4h",
                       "mlp.dense_4h_to_h");
    };
    if (traits.parallel) {
      const Value y = traits.two_norms ? b.norm(b.input(), "ln_mlp", norm) : x;
      model.blocks.push_back(b.finish(b.add(b.input(), b.add(mlp(y), out))));
    } else {
      const Value middle = b.add(b.input(), out);
      const Value y = b.norm(middle, "post_attention_layernorm", norm);
      model.blocks.push_back(b.finish(b.add(middle, mlp(y))));
    }
  }
  return model;
}

}  // namespace pare
