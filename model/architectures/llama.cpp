// Llama 2 and 3.x (LlamaForCausalLM), Mistral (MistralForCausalLM), Qwen 2, 2.5 and 3
// (Qwen2ForCausalLM, Qwen3ForCausalLM).
#include <functional>

#include "model/architectures/families.h"
#include "model/architectures/llama_block.h"
#include "model/architectures/rotary.h"

namespace pare {
namespace {

// What the configuration classes have for absent keys (transformers' MistralConfig, Qwen2Config).
constexpr int64_t kSlidingWindow = 4096;
constexpr int64_t kMaxWindowLayers = 28;

struct Traits {
  LlamaAttention attention;
  bool mlp_bias = false;
  std::function<int64_t(int64_t layer)> window = [](int64_t) { return int64_t{0}; };
};

ModelGraph describe(const ConfigReader& config, const TransformerShape& shape, Traits traits) {
  const NormSpec norm{.epsilon = static_cast<float>(config.number("rms_norm_eps", 1e-6))};
  const Activation activation = read_activation(config, "hidden_act", "silu");
  ModelGraph model = llama_frame(config, shape, norm);
  traits.attention.rotary = read_rotary(config, shape.head_dim);
  traits.attention.attention = causal_attention(shape);
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    traits.attention.attention.shape.window = traits.window(layer);
    model.blocks.push_back(llama_block(
        {llama_prefix(layer), shape.hidden}, norm, traits.attention, [&](BlockBuilder& b, Value x) {
          return gated_mlp(b, x, shape.intermediate, activation, traits.mlp_bias);
        }));
  }
  return model;
}

// Newer files list each layer's kind; older ones slide from layer max_window_layers on.
std::function<int64_t(int64_t)> qwen_window(const ConfigReader& config, int64_t layers) {
  if (!config.boolean("use_sliding_window", false)) return [](int64_t) { return int64_t{0}; };
  const int64_t window = read_window(config, kSlidingWindow);
  const int64_t first = config.non_negative("max_window_layers", kMaxWindowLayers);
  std::vector<bool> sliding(static_cast<size_t>(layers));
  if (config.has("layer_types")) {
    sliding = read_sliding_layers(config, layers, nullptr);
  } else {
    for (int64_t layer = first; layer < layers; ++layer) sliding[static_cast<size_t>(layer)] = true;
  }
  return [=](int64_t layer) { return sliding[static_cast<size_t>(layer)] ? window : 0; };
}

}  // namespace

ModelGraph describe_llama(const ConfigReader& config) {
  Traits traits;
  traits.attention.qkv_bias = config.boolean("attention_bias", false);
  traits.attention.output_bias = traits.attention.qkv_bias;
  traits.mlp_bias = config.boolean("mlp_bias", false);
  return describe(config, read_shape(config), traits);
}

ModelGraph describe_mistral(const ConfigReader& config) {
  Traits traits;
  const int64_t window = read_window(config, kSlidingWindow);
  traits.window = [window](int64_t) { return window; };
  return describe(config, read_shape(config), traits);
}

ModelGraph describe_qwen2(const ConfigReader& config) {
  const TransformerShape shape = read_shape(config);
  Traits traits;
  traits.attention.qkv_bias = true;
  traits.window = qwen_window(config, shape.layers);
  return describe(config, shape, traits);
}

ModelGraph describe_qwen3(const ConfigReader& config) {
  const TransformerShape shape =
      read_shape(config, {.default_head_dim = 128});  // what Qwen3Config has
  Traits traits;
  traits.attention.qkv_bias = config.boolean("attention_bias", false);
  traits.attention.output_bias = traits.attention.qkv_bias;
  traits.attention.head_norm =
      NormSpec{.epsilon = static_cast<float>(config.number("rms_norm_eps", 1e-6))};
  traits.window = qwen_window(config, shape.layers);
  return describe(config, shape, traits);
}

}  // namespace pare
