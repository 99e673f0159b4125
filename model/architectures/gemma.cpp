// Gemma 2 (Gemma2ForCausalLM) and the text part of Gemma 3 (Gemma3ForCausalLM,
// Gemma3ForConditionalGeneration): norms before and behind both halves, weights stored less one.
#include <cmath>

#include "model/architectures/families.h"
#include "model/architectures/llama_block.h"
#include "model/architectures/rotary.h"

namespace pare {
namespace {

struct Traits {
  std::vector<bool> sliding;
  RotaryShape rotary;          ///< Of layers that see everything …
  RotaryShape sliding_rotary;  ///< … and of those with a window.
  bool head_norm = false;
};

// The shape by GemmaConfig's own defaults.
TransformerShape read_gemma_shape(const ConfigReader& config) {
  return read_shape(config, {.default_head_dim = 256});
}

float cap(const ConfigReader& config, const char* key, double otherwise) {
  if (!config.json().contains(key)) return static_cast<float>(otherwise);
  return static_cast<float>(config.number(key, 0));  // null: none
}

ModelGraph describe(const ConfigReader& config, const TransformerShape& shape, const Traits& traits,
                    double attention_cap, double final_cap) {
  const NormSpec norm{.weight_offset = 1,
                      .epsilon = static_cast<float>(config.number("rms_norm_eps", 1e-6))};
  const Activation activation =
      read_activation(config, "hidden_activation", config.text("hidden_act", "gelu_pytorch_tanh"));
  ModelGraph model = llama_frame(config, shape, norm, true);
  model.embedding.scale = std::sqrt(static_cast<float>(shape.hidden));
  model.embedding.scale_rounded = true;
  model.head.soft_cap = cap(config, "final_logit_softcapping", final_cap);
  LlamaAttention attention;
  attention.qkv_bias = attention.output_bias = config.boolean("attention_bias", false);
  if (traits.head_norm) attention.head_norm = norm;
  attention.attention = causal_attention(shape);
  attention.attention.shape.scale =
      1 / std::sqrt(static_cast<float>(config.number("query_pre_attn_scalar", 256)));
  attention.attention.shape.soft_cap = cap(config, "attn_logit_softcapping", attention_cap);
  const int64_t window = read_window(config, 4096);
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    const bool sliding = traits.sliding[static_cast<size_t>(layer)];
    attention.attention.shape.window = sliding ? window : 0;
    attention.rotary = sliding ? traits.sliding_rotary : traits.rotary;
    BlockBuilder b(llama_prefix(layer), shape.hidden);
    const Value x = b.norm(b.input(), "input_layernorm", norm);
    const Value out = llama_attention(b, x, attention);
    const Value middle = b.add(b.input(), b.norm(out, "post_attention_layernorm", norm));
    const Value y = b.norm(middle, "pre_feedforward_layernorm", norm);
    const Value mlp = gated_mlp(b, y, shape.intermediate, activation, false);
    model.blocks.push_back(
        b.finish(b.add(middle, b.norm(mlp, "post_feedforward_layernorm", norm))));
  }
  return model;
}

}  // namespace

ModelGraph describe_gemma2(const ConfigReader& config) {
  const TransformerShape shape = read_gemma_shape(config);
  Traits traits;
  traits.sliding =
      read_sliding_layers(config, shape.layers, [](int64_t layer) { return layer % 2 == 0; });
  traits.rotary = traits.sliding_rotary = read_rotary(config, shape.head_dim);
  return describe(config, shape, traits, 50, 30);
}

ModelGraph describe_gemma3(const ConfigReader& outer) {
  // The model that also sees has the text part's configuration in a section of its own, which
  // leaves out what is as in transformers' Gemma3TextConfig.
  nlohmann::json text = outer.has("text_config") ? outer.json().at("text_config") : outer.json();
  if (!text.is_object()) outer.fail("\"text_config\" is not an object");
  const nlohmann::json defaults = {{"vocab_size", 262208},
                                   {"num_attention_heads", 8},
                                   {"num_key_value_heads", 4},
                                   {"max_position_embeddings", 131072}};
  if (outer.has("text_config")) {
    for (const auto& [key, value] : defaults.items()) {
      if (!text.contains(key)) text[key] = value;
    }
  }
  const ConfigReader config(text, outer.origin());
  if (config.boolean("use_bidirectional_attention", false)) {
    config.fail("attention in both directions (\"use_bidirectional_attention\") is not supported");
  }
  const TransformerShape shape = read_gemma_shape(config);
  Traits traits;
  const char* pattern_key =
      config.has("sliding_window_pattern") ? "sliding_window_pattern" : "_sliding_window_pattern";
  const int64_t pattern = config.positive(pattern_key, 6);
  if (config.has("layer_types")) {
    traits.sliding = read_sliding_layers(config, shape.layers, nullptr);
  } else {
    for (int64_t layer = 0; layer < shape.layers; ++layer) {
      traits.sliding.push_back((layer + 1) % pattern != 0);
    }
  }
  traits.head_norm = true;
  traits.rotary =
      read_rotary(config, shape.head_dim, {.theta = 1e6, .layer_type = "full_attention"});
  traits.sliding_rotary = read_rotary(config, shape.head_dim,
                                      {.theta = 10000,
                                       .layer_type = "sliding_attention",
                                       .theta_key = "rope_local_base_freq",
                                       .scaled = config.has("rope_parameters")});
  return describe(config, shape, traits, 0, 0);
}

}  // namespace pare
