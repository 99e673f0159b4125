// T5, Flan-T5 (T5ForConditionalGeneration) and mT5 (MT5ForConditionalGeneration): encoder and
// decoder with a bias by distance instead of positions (Raffel et al., 2019, arXiv:1910.10683).
#include <cmath>

#include "model/architectures/families.h"
#include "model/architectures/transformer_config.h"

namespace pare {
namespace {

struct T5Shape {
  int64_t hidden = 0;
  int64_t heads = 0;
  int64_t head_dim = 0;
  int64_t intermediate = 0;
  Activation activation = Activation::kRelu;
  bool gated = false;
  NormSpec norm;
  RelativeBiasSpec bias;
};

T5Shape read_t5_shape(const ConfigReader& config, const char* default_mlp) {
  T5Shape shape;
  shape.hidden = config.positive("d_model");
  shape.heads = config.positive("num_heads");
  shape.head_dim = config.positive("d_kv", 64);
  shape.intermediate = config.positive("d_ff");
  check_heads(config, shape.heads, shape.heads, shape.head_dim);
  const std::string mlp = config.text("feed_forward_proj", default_mlp);
  shape.gated = mlp.starts_with("gated-");
  const std::string name = shape.gated ? mlp.substr(6) : mlp;
  // The files say "gated-gelu" and mean its tanh form.
  shape.activation = find_activation(config, mlp == "gated-gelu" ? "gelu_new" : name);
  shape.norm.epsilon = static_cast<float>(config.number("layer_norm_epsilon", 1e-6));
  shape.bias.buckets = config.positive("relative_attention_num_buckets", 32);
  shape.bias.max_distance = config.positive("relative_attention_max_distance", 128);
  if (shape.bias.buckets < 4 || shape.bias.max_distance <= shape.bias.buckets / 2) {
    config.fail(
        "relative_attention_num_buckets and relative_attention_max_distance do not go "
        "together");
  }
  return shape;
}

Value attention(BlockBuilder& b, Value x, Value keys, const T5Shape& shape, const std::string& name,
                const AttentionSpec& spec) {
  const int64_t width = shape.heads * shape.head_dim;
  const Value q = b.linear(x, name + ".q", width);
  const Value k = b.linear(keys, name + ".k", width);
  const Value v = b.linear(keys, name + ".v", width);
  return b.linear(b.attention(q, k, v, spec), name + ".o", shape.hidden);
}

Value mlp(BlockBuilder& b, Value x, const T5Shape& shape, const std::string& name) {
  if (shape.gated) {
    return gated_mlp(b, x, shape.intermediate, shape.activation, false,
                     {name + ".wi_0", name + ".wi_1", name + ".wo"});
  }
  return plain_mlp(b, x, shape.intermediate, shape.activation, false, name + ".wi", name + ".wo");
}

// Block `layer` of "encoder." or "decoder.".
BlockGraph block(const T5Shape& shape, const std::string& stack, int64_t layer) {
  const bool decoder = stack == "decoder.";
  BlockBuilder b(stack + "block." + std::to_string(layer) + ".", shape.hidden);
  AttentionSpec self;
  self.shape = {.heads = shape.heads, .kv_heads = shape.heads, .head_dim = shape.head_dim};
  self.shape.causal = decoder;
  self.relative_bias = shape.bias;
  // All layers use the first one's table.
  self.relative_bias.table = stack + "block.0.layer.0.SelfAttention.relative_attention_bias.weight";
  self.relative_bias.owned = layer == 0;
  self.relative_bias.bidirectional = !decoder;
  const Value x = b.norm(b.input(), "layer.0.layer_norm", shape.norm);
  Value stream = b.add(b.input(), attention(b, x, x, shape, "layer.0.SelfAttention", self));
  if (decoder) {
    AttentionSpec cross;
    cross.shape = self.shape;
    cross.shape.causal = false;
    cross.memory = true;
    const Value y = b.norm(stream, "layer.1.layer_norm", shape.norm);
    const Value memory = b.memory(shape.hidden);
    stream = b.add(stream, attention(b, y, memory, shape, "layer.1.EncDecAttention", cross));
  }
  const std::string last = decoder ? "layer.2" : "layer.1";
  const Value z = b.norm(stream, last + ".layer_norm", shape.norm);
  return b.finish(b.add(stream, mlp(b, z, shape, last + ".DenseReluDense")));
}

ModelGraph describe(const ConfigReader& config, const char* default_mlp, bool scaled) {
  const T5Shape shape = read_t5_shape(config, default_mlp);
  TransformerShape frame;
  frame.hidden = shape.hidden;
  frame.vocab = config.positive("vocab_size");
  const int64_t layers = config.positive("num_layers");
  const int64_t decoder_layers = config.positive("num_decoder_layers", layers);
  check_layers(config, layers);
  check_layers(config, decoder_layers);
  ModelGraph model =
      make_frame(config, frame, {"shared.weight", "decoder.final_layer_norm", "lm_head.weight"},
                 shape.norm, true);
  // A file that says nothing, or that they are tied, may have a head of its own all the same.
  model.head.own_matrix = "lm_head.weight";
  if (scaled) model.head.scale = 1 / std::sqrt(static_cast<float>(shape.hidden));
  EncoderGraph encoder;
  encoder.embedding = model.embedding;
  encoder.tail = norm_tail(shape.hidden, "encoder.final_layer_norm", shape.norm);
  for (int64_t i = 0; i < layers; ++i) encoder.blocks.push_back(block(shape, "encoder.", i));
  for (int64_t i = 0; i < decoder_layers; ++i) model.blocks.push_back(block(shape, "decoder.", i));
  model.encoder = std::move(encoder);
  model.decoder_start = static_cast<int32_t>(config.non_negative("decoder_start_token_id", 0));
  return model;
}

}  // namespace

ModelGraph describe_t5(const ConfigReader& config) {
  const bool tied = config.boolean("tie_word_embeddings", true);
  return describe(config, "relu", config.boolean("scale_decoder_outputs", tied));
}

ModelGraph describe_mt5(const ConfigReader& config) {
  return describe(config, "gated-gelu", false);
}

}  // namespace pare
