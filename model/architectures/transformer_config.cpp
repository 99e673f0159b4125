#include "model/architectures/transformer_config.h"

#include <cmath>

namespace pare {
namespace {

// A damaged file must not make the description itself fill the memory.
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxHeadDim = 8192;
constexpr int64_t kMaxHeads = 65536;

}  // namespace

void check_layers(const ConfigReader& config, int64_t layers) {
  if (layers <= kMaxLayers) return;
  config.fail("the number of layers is " + std::to_string(layers) + ", expected at most " +
              std::to_string(kMaxLayers));
}

void check_heads(const ConfigReader& config, int64_t heads, int64_t kv_heads, int64_t head_dim) {
  if (heads % kv_heads != 0) {
    config.fail("num_attention_heads (" + std::to_string(heads) +
                ") is not a multiple of num_key_value_heads (" + std::to_string(kv_heads) + ")");
  }
  if (heads > kMaxHeads || head_dim > kMaxHeadDim) {
    config.fail("the number of heads is " + std::to_string(heads) + " and head_dim " +
                std::to_string(head_dim) + ", expected at most " + std::to_string(kMaxHeads) +
                " and " + std::to_string(kMaxHeadDim));
  }
}

TransformerShape read_shape(const ConfigReader& config) { return read_shape(config, {}); }

TransformerShape read_shape(const ConfigReader& config, const ShapeKeys& keys) {
  TransformerShape shape;
  shape.hidden = config.positive(keys.hidden);
  shape.vocab = config.positive("vocab_size");
  shape.layers = config.positive(keys.layers);
  shape.heads = config.positive(keys.heads);
  shape.kv_heads =
      *keys.kv_heads == '\0' ? shape.heads : config.positive(keys.kv_heads, shape.heads);
  const bool given = *keys.head_dim != '\0' && config.has(keys.head_dim);
  if (!given && keys.default_head_dim == 0 && shape.hidden % shape.heads != 0) {
    config.fail(std::string(keys.hidden) + " (" + std::to_string(shape.hidden) +
                ") is not a multiple of " + keys.heads + " (" + std::to_string(shape.heads) +
                ") and head_dim is missing");
  }
  shape.head_dim = given                       ? config.positive(keys.head_dim)
                   : keys.default_head_dim > 0 ? keys.default_head_dim
                                               : shape.hidden / shape.heads;
  shape.intermediate = *keys.intermediate == '\0' ? 0 : config.positive(keys.intermediate);
  shape.max_positions = config.positive(keys.max_positions, 2048);
  check_layers(config, shape.layers);
  check_heads(config, shape.heads, shape.kv_heads, shape.head_dim);
  return shape;
}

Activation find_activation(const ConfigReader& config, const std::string& name) {
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new" || name == "gelu_fast") {
    return Activation::kGeluTanh;
  }
  if (name == "gelu") return Activation::kGeluErf;
  if (name == "quick_gelu") return Activation::kQuickGelu;
  if (name == "relu") return Activation::kRelu;
  if (name == "relu2") return Activation::kReluSquared;
  config.fail("activation \"" + name + "\" is not supported");
}

Activation read_activation(const ConfigReader& config, const char* key,
                           const std::string& otherwise) {
  return find_activation(config, config.text(key, otherwise));
}

std::vector<bool> read_sliding_layers(const ConfigReader& config, int64_t layers,
                                      bool (*slides)(int64_t layer)) {
  std::vector<bool> sliding;
  const nlohmann::json kinds =
      config.has("layer_types") ? config.json().at("layer_types") : nlohmann::json::array();
  if (!kinds.is_array()) config.fail("\"layer_types\" is " + kinds.dump() + ", expected a list");
  for (int64_t layer = 0; layer < layers; ++layer) {
    const auto index = static_cast<size_t>(layer);
    if (kinds.empty() && slides != nullptr) {
      sliding.push_back(slides(layer));
      continue;
    }
    if (index >= kinds.size() || !kinds[index].is_string()) {
      config.fail("\"layer_types\" does not name the kind of layer " + std::to_string(layer));
    }
    const auto kind = kinds[index].get<std::string>();
    if (kind != "full_attention" && kind != "sliding_attention") {
      config.fail("layer " + std::to_string(layer) + " is of kind \"" + kind +
                  "\", expected full_attention or sliding_attention");
    }
    sliding.push_back(kind == "sliding_attention");
  }
  return sliding;
}

int64_t read_window(const ConfigReader& config, int64_t otherwise) {
  if (!config.json().contains("sliding_window")) return otherwise;
  return config.has("sliding_window") ? config.positive("sliding_window") : 0;
}

AttentionSpec causal_attention(const TransformerShape& shape) {
  AttentionSpec spec;
  spec.shape.heads = shape.heads;
  spec.shape.kv_heads = shape.kv_heads;
  spec.shape.head_dim = shape.head_dim;
  spec.shape.scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
  return spec;
}

BlockGraph no_ops(int64_t hidden) {
  BlockBuilder b("", hidden);
  return b.finish(b.input());
}

BlockGraph norm_tail(int64_t hidden, const std::string& name, const NormSpec& norm) {
  BlockBuilder b("", hidden);
  return b.finish(b.norm(b.input(), name, norm));
}

ModelGraph make_frame(const ConfigReader& config, const TransformerShape& shape,
                      const FrameNames& names, const NormSpec& final_norm, bool tied_by_default) {
  ModelGraph model;
  model.hidden_size = shape.hidden;
  model.vocab_size = shape.vocab;
  model.max_positions = shape.max_positions;
  model.embedding.tokens = names.embedding;
  model.embedding.vocab_size = shape.vocab;
  model.embedding.width = shape.hidden;
  model.embedding.stem = no_ops(shape.hidden);
  model.head.tail = norm_tail(shape.hidden, names.final_norm, final_norm);
  model.head.matrix =
      config.boolean("tie_word_embeddings", tied_by_default) ? names.embedding : names.head;
  return model;
}

Qkv split_qkv(BlockBuilder& b, Value fused, const TransformerShape& shape) {
  const int64_t q = shape.heads * shape.head_dim;
  const int64_t kv = shape.kv_heads * shape.head_dim;
  return {b.slice(fused, 0, q), b.slice(fused, q, kv), b.slice(fused, q + kv, kv)};
}

Qkv split_qkv_by_group(BlockBuilder& b, Value fused, const TransformerShape& shape) {
  const int64_t d = shape.head_dim;
  const int64_t queries = shape.heads / shape.kv_heads * d;
  const int64_t stride = queries + 2 * d;
  return {b.slice_runs(fused, {.begin = 0, .count = queries, .stride = stride}),
          b.slice_runs(fused, {.begin = queries, .count = d, .stride = stride}),
          b.slice_runs(fused, {.begin = queries + d, .count = d, .stride = stride})};
}

Value gated_mlp(BlockBuilder& b, Value x, int64_t intermediate, Activation activation, bool bias,
                const GatedMlpNames& names) {
  const Value gate = b.linear(x, names.gate, intermediate, {.bias = bias});
  const Value up = b.linear(x, names.up, intermediate, {.bias = bias});
  return b.linear(b.gated(activation, gate, up), names.down, b.width(x), {.bias = bias});
}

Value fused_gated_mlp(BlockBuilder& b, Value x, int64_t intermediate, Activation activation,
                      const std::string& gate_up, const std::string& down) {
  const Value both = b.linear(x, gate_up, 2 * intermediate);
  const Value gate = b.slice(both, 0, intermediate);
  const Value up = b.slice(both, intermediate, intermediate);
  return b.linear(b.gated(activation, gate, up), down, b.width(x));
}

Value plain_mlp(BlockBuilder& b, Value x, int64_t intermediate, Activation activation, bool bias,
                const std::string& up, const std::string& down) {
  const Value inner = b.activation(b.linear(x, up, intermediate, {.bias = bias}), activation);
  return b.linear(inner, down, b.width(x), {.bias = bias});
}

}  // namespace pare
