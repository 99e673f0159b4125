#include "model/architectures/llama.h"

#include <cmath>
#include <functional>

#include "model/architectures/rotary.h"

namespace pare {
namespace {

// A damaged file must not make the description itself fill the memory.
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxHeadDim = 8192;

// What Hugging Face's Qwen2Config (transformers, configuration_qwen2.py) has for an absent key.
constexpr int64_t kQwen2MaxWindowLayers = 28;
// What MistralConfig and Qwen2Config have for an absent key; null means no window.
constexpr int64_t kSlidingWindow = 4096;

// What the members of the family do differently.
struct FamilyTraits {
  bool qkv_bias = false;
  bool output_bias = false;
  bool mlp_bias = false;
  std::function<int64_t(int64_t layer)> window = [](int64_t) { return int64_t{0}; };
};

Activation read_activation(const ConfigReader& config) {
  const std::string name = config.text("hidden_act", "silu");
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return Activation::kGeluTanh;
  if (name == "gelu") return Activation::kGeluErf;
  config.fail("activation \"" + name + "\" is not supported");
}

ModelGraph describe(const ConfigReader& config, const FamilyTraits& traits) {
  ModelGraph model;
  model.hidden_size = config.positive("hidden_size");
  model.vocab_size = config.positive("vocab_size");
  model.max_positions = config.positive("max_position_embeddings", 2048);
  model.norm_epsilon = static_cast<float>(config.number("rms_norm_eps", 1e-6));
  model.embedding = "model.embed_tokens.weight";
  model.final_norm = "model.norm.weight";
  model.head = config.boolean("tie_word_embeddings", false) ? model.embedding : "lm_head.weight";

  const int64_t heads = config.positive("num_attention_heads");
  const int64_t kv_heads = config.positive("num_key_value_heads", heads);
  if (heads % kv_heads != 0) {
    config.fail("num_attention_heads (" + std::to_string(heads) +
                ") is not a multiple of num_key_value_heads (" + std::to_string(kv_heads) + ")");
  }
  if (!config.has("head_dim") && model.hidden_size % heads != 0) {
    config.fail("hidden_size is not a multiple of num_attention_heads and head_dim is missing");
  }
  const int64_t head_dim = config.positive("head_dim", model.hidden_size / heads);
  const int64_t intermediate = config.positive("intermediate_size");
  const int64_t layers = config.positive("num_hidden_layers");
  if (layers > kMaxLayers || head_dim > kMaxHeadDim) {
    config.fail("num_hidden_layers is " + std::to_string(layers) + " and head_dim " +
                std::to_string(head_dim) + ", expected at most " + std::to_string(kMaxLayers) +
                " and " + std::to_string(kMaxHeadDim));
  }
  const Activation activation = read_activation(config);
  const RotaryShape rotary = read_rotary(config, head_dim, head_dim);

  for (int64_t layer = 0; layer < layers; ++layer) {
    BlockGraph block;
    block.prefix = "model.layers." + std::to_string(layer) + ".";
    block.attention = {.heads = heads,
                       .kv_heads = kv_heads,
                       .head_dim = head_dim,
                       .scale = 1.0F / std::sqrt(static_cast<float>(head_dim)),
                       .window = traits.window(layer)};
    block.rotary = rotary;
    block.norm_epsilon = model.norm_epsilon;
    enum Value {
      kStream,
      kAttnInput,
      kQ,
      kK,
      kV,
      kContext,
      kAttnOut,
      kMlpInput,
      kGate,
      kUp,
      kMlp,
      kMlpOut
    };
    block.widths = {model.hidden_size,   model.hidden_size, heads * head_dim,  kv_heads * head_dim,
                    kv_heads * head_dim, heads * head_dim,  model.hidden_size, model.hidden_size,
                    intermediate,        intermediate,      intermediate,      model.hidden_size};
    const auto linear = [](const char* name, int input, int output, bool bias) {
      return Op{
          .kind = OpKind::kLinear, .name = name, .inputs = {input}, .output = output, .bias = bias};
    };
    block.ops = {
        {.kind = OpKind::kRmsNorm,
         .name = "input_layernorm",
         .inputs = {kStream},
         .output = kAttnInput},
        linear("self_attn.q_proj", kAttnInput, kQ, traits.qkv_bias),
        linear("self_attn.k_proj", kAttnInput, kK, traits.qkv_bias),
        linear("self_attn.v_proj", kAttnInput, kV, traits.qkv_bias),
        {.kind = OpKind::kRotary, .name = {}, .inputs = {kQ}, .output = kQ},
        {.kind = OpKind::kRotary, .name = {}, .inputs = {kK}, .output = kK},
        {.kind = OpKind::kAttention, .name = {}, .inputs = {kQ, kK, kV}, .output = kContext},
        linear("self_attn.o_proj", kContext, kAttnOut, traits.output_bias),
        {.kind = OpKind::kAddResidual, .name = {}, .inputs = {kAttnOut}, .output = kStream},
        {.kind = OpKind::kRmsNorm,
         .name = "post_attention_layernorm",
         .inputs = {kStream},
         .output = kMlpInput},
        linear("mlp.gate_proj", kMlpInput, kGate, traits.mlp_bias),
        linear("mlp.up_proj", kMlpInput, kUp, traits.mlp_bias),
        {.kind = OpKind::kGatedActivation,
         .name = {},
         .inputs = {kGate, kUp},
         .output = kMlp,
         .activation = activation},
        linear("mlp.down_proj", kMlp, kMlpOut, traits.mlp_bias),
        {.kind = OpKind::kAddResidual, .name = {}, .inputs = {kMlpOut}, .output = kStream},
    };
    model.blocks.push_back(std::move(block));
  }
  return model;
}

int64_t sliding_window(const ConfigReader& config) {
  if (!config.json().contains("sliding_window")) return kSlidingWindow;
  return config.has("sliding_window") ? config.positive("sliding_window") : 0;
}

}  // namespace

ModelGraph describe_llama(const ConfigReader& config) {
  FamilyTraits traits;
  traits.qkv_bias = traits.output_bias = config.boolean("attention_bias", false);
  traits.mlp_bias = config.boolean("mlp_bias", false);
  return describe(config, traits);
}

ModelGraph describe_mistral(const ConfigReader& config) {
  FamilyTraits traits;
  const int64_t window = sliding_window(config);
  traits.window = [window](int64_t) { return window; };
  return describe(config, traits);
}

ModelGraph describe_qwen2(const ConfigReader& config) {
  FamilyTraits traits;
  traits.qkv_bias = true;
  const bool sliding = config.boolean("use_sliding_window", false);
  const int64_t window = sliding ? sliding_window(config) : 0;
  // Newer files list each layer's kind; older ones slide from layer max_window_layers on.
  const nlohmann::json kinds =
      config.has("layer_types") ? config.json().at("layer_types") : nlohmann::json::array();
  if (!kinds.is_array()) config.fail("\"layer_types\" is " + kinds.dump() + ", expected a list");
  const int64_t first = config.non_negative("max_window_layers", kQwen2MaxWindowLayers);
  traits.window = [=, &config](int64_t layer) -> int64_t {
    if (!sliding) return 0;
    if (kinds.empty()) return layer >= first ? window : 0;
    if (static_cast<size_t>(layer) >= kinds.size() ||
        !kinds[static_cast<size_t>(layer)].is_string()) {
      config.fail("\"layer_types\" does not name the kind of layer " + std::to_string(layer));
    }
    const auto kind = kinds[static_cast<size_t>(layer)].get<std::string>();
    if (kind == "full_attention") return 0;
    if (kind == "sliding_attention") return window;
    config.fail("layer " + std::to_string(layer) + " is of kind \"" + kind +
                "\", expected full_attention or sliding_attention");
  };
  return describe(config, traits);
}

}  // namespace pare
