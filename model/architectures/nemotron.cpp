// Nemotron (NemotronForCausalLM): layer norms with weights stored less one, squared ReLU. And
// Llama-Nemotron (DeciLMForCausalLM): Llama whose layers were pared down one by one, so that
// attention or MLP may be gone or a single linear.
#include "model/architectures/families.h"
#include "model/architectures/llama_block.h"
#include "model/architectures/rotary.h"

namespace pare {
namespace {

// One half of a layer in "block_configs".
struct Half {
  bool gone = false;
  bool linear = false;
  int64_t size = 0;  ///< Key heads, or channels of the MLP.
};

ConfigReader section(const ConfigReader& config, const nlohmann::json& layer, const char* key,
                     size_t index) {
  if (!layer.is_object() || !layer.contains(key) || !layer.at(key).is_object()) {
    config.fail("\"block_configs\" has no \"" + std::string(key) + "\" for layer " +
                std::to_string(index));
  }
  return {layer.at(key), config.origin()};
}

Half read_half(const ConfigReader& part) {
  return {.gone = part.boolean("no_op", false),
          .linear = part.boolean("replace_with_linear", false)};
}

// MLP sizes are given as a multiple of two thirds of the width, rounded up to 256.
int64_t mlp_size(const ConfigReader& part, int64_t hidden) {
  if (part.has("intermediate_size")) return part.positive("intermediate_size");
  const double wanted = 2 * part.number("ffn_mult", 0) * static_cast<double>(hidden) / 3;
  constexpr double kMost = 1 << 30;
  if (!(wanted >= 1 && wanted <= kMost)) part.fail("\"ffn_mult\" makes no usable width");
  const auto whole = static_cast<int64_t>(wanted);
  return (whole + 255) / 256 * 256;
}

}  // namespace

ModelGraph describe_nemotron(const ConfigReader& config) {
  const TransformerShape shape = read_shape(config);
  const NormSpec norm{.centered = true,
                      .bias = true,
                      .weight_offset = 1,
                      .epsilon = static_cast<float>(config.number("norm_eps", 1e-5))};
  const Activation activation = read_activation(config, "hidden_act", "relu2");
  ModelGraph model = llama_frame(config, shape, norm);
  LlamaAttention attention;
  attention.qkv_bias = attention.output_bias = config.boolean("attention_bias", false);
  attention.rotary = read_rotary(config, shape.head_dim, {.partial = 0.5});
  attention.attention = causal_attention(shape);
  const bool bias = config.boolean("mlp_bias", false);
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    model.blocks.push_back(llama_block({llama_prefix(layer), shape.hidden}, norm, attention,
                                       [&](BlockBuilder& b, Value x) {
                                         return plain_mlp(b, x, shape.intermediate, activation,
                                                          bias, "mlp.up_proj", "mlp.down_proj");
                                       }));
  }
  return model;
}

ModelGraph describe_nemotron_nas(const ConfigReader& config) {
  const TransformerShape shape = read_shape(config, {.kv_heads = "", .intermediate = ""});
  const NormSpec norm{.epsilon = static_cast<float>(config.number("rms_norm_eps", 1e-6))};
  const Activation activation = read_activation(config, "hidden_act", "silu");
  const nlohmann::json layers = config.json().value("block_configs", nlohmann::json::array());
  if (!layers.is_array() || static_cast<int64_t>(layers.size()) != shape.layers) {
    config.fail("\"block_configs\" must be a list of num_hidden_layers (" +
                std::to_string(shape.layers) + ") objects");
  }
  ModelGraph model = llama_frame(config, shape, norm);
  LlamaAttention attention;
  const bool bias = config.boolean("attention_bias", false);
  attention.qkv_bias = attention.output_bias = bias;
  attention.rotary = read_rotary(config, shape.head_dim);
  for (size_t layer = 0; layer < layers.size(); ++layer) {
    const ConfigReader of_attention = section(config, layers[layer], "attention", layer);
    const ConfigReader of_mlp = section(config, layers[layer], "ffn", layer);
    const Half first = read_half(of_attention);
    const Half second = read_half(of_mlp);
    BlockBuilder b(llama_prefix(static_cast<int64_t>(layer)), shape.hidden);
    Value stream = b.input();
    if (!first.gone) {
      const Value x = b.norm(stream, "input_layernorm", norm);
      Value out;
      if (first.linear) {
        out = b.linear(x, "self_attn.linear_attn", shape.hidden, {.bias = bias});
      } else {
        TransformerShape own = shape;
        const int64_t group = of_attention.positive("n_heads_in_group", 1);
        if (shape.heads % group != 0) {
          config.fail("\"n_heads_in_group\" (" + std::to_string(group) + ") of layer " +
                      std::to_string(layer) + " does not divide num_attention_heads (" +
                      std::to_string(shape.heads) + ")");
        }
        if (of_attention.has("window_length")) {
          config.fail("layer " + std::to_string(layer) +
                      " has a \"window_length\", which is not supported");
        }
        own.kv_heads = shape.heads / group;
        check_heads(config, own.heads, own.kv_heads, own.head_dim);
        attention.attention = causal_attention(own);
        out = llama_attention(b, x, attention);
      }
      stream = b.add(stream, out);
    }
    if (!second.gone) {
      const Value y = b.norm(stream, "post_attention_layernorm", norm);
      const Value out = second.linear ? b.linear(y, "mlp.linear_mlp", shape.hidden)
                                      : gated_mlp(b, y, mlp_size(of_mlp, shape.hidden), activation,
                                                  config.boolean("mlp_bias", false));
      stream = b.add(stream, out);
    }
    model.blocks.push_back(b.finish(stream));
  }
  return model;
}

}  // namespace pare
