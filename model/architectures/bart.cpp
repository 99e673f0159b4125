// BART (BartForConditionalGeneration), mBART (MBartForConditionalGeneration) and FairSeq's
// translation models (FSMTForConditionalGeneration): encoder and decoder with positions of their
// own, norms behind each half or before it.
#include <cmath>

#include "model/architectures/families.h"
#include "model/architectures/transformer_config.h"

namespace pare {
namespace {

struct BartTraits {
  bool norm_before = false;
  bool embedding_norm = true;
};

struct Stack {
  std::string prefix;  ///< "model.encoder."
  int64_t hidden = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t intermediate = 0;
  bool decoder = false;
  Activation activation = Activation::kGeluErf;
};

// Of all norms of the family.
NormSpec layer_norm() { return {.centered = true, .bias = true, .epsilon = 1e-5F}; }

Stack read_stack(const ConfigReader& config, const std::string& name, const char* activation) {
  Stack stack;
  stack.prefix = "model." + name + ".";
  stack.hidden = config.positive("d_model");
  stack.layers = config.positive((name + "_layers").c_str());
  stack.heads = config.positive((name + "_attention_heads").c_str());
  stack.intermediate = config.positive((name + "_ffn_dim").c_str());
  stack.decoder = name == "decoder";
  stack.activation = read_activation(config, "activation_function", activation);
  check_layers(config, stack.layers);
  if (stack.hidden % stack.heads != 0) config.fail("d_model is not a multiple of the heads");
  check_heads(config, stack.heads, stack.heads, stack.hidden / stack.heads);
  return stack;
}

Value attention(BlockBuilder& b, Value x, Value keys, const std::string& name,
                const AttentionSpec& spec) {
  const int64_t width = b.width(x);
  const LinearSpec linear{.bias = true};
  const Value q = b.linear(x, name + ".q_proj", width, linear);
  const Value k = b.linear(keys, name + ".k_proj", width, linear);
  const Value v = b.linear(keys, name + ".v_proj", width, linear);
  return b.linear(b.attention(q, k, v, spec), name + ".out_proj", width, linear);
}

BlockGraph block(const Stack& stack, int64_t layer, bool norm_before) {
  BlockBuilder b(stack.prefix + "layers." + std::to_string(layer) + ".", stack.hidden);
  AttentionSpec self;
  const int64_t head_dim = stack.hidden / stack.heads;
  self.shape = {.heads = stack.heads,
                .kv_heads = stack.heads,
                .head_dim = head_dim,
                .scale = 1 / std::sqrt(static_cast<float>(head_dim))};
  self.shape.causal = stack.decoder;
  AttentionSpec cross = self;
  cross.shape.causal = false;
  cross.memory = true;
  // stream + part(norm(stream)), or norm(stream + part(stream))
  const auto half = [&](Value stream, const std::string& norm, const auto& part) {
    if (norm_before) return b.add(stream, part(b.norm(stream, norm, layer_norm())));
    return b.norm(b.add(stream, part(stream)), norm, layer_norm());
  };
  Value stream = half(b.input(), "self_attn_layer_norm",
                      [&](Value x) { return attention(b, x, x, "self_attn", self); });
  if (stack.decoder) {
    const Value memory = b.memory(stack.hidden);
    stream = half(stream, "encoder_attn_layer_norm",
                  [&](Value x) { return attention(b, x, memory, "encoder_attn", cross); });
  }
  stream = half(stream, "final_layer_norm", [&](Value x) {
    return plain_mlp(b, x, stack.intermediate, stack.activation, true, "fc1", "fc2");
  });
  return b.finish(stream);
}

std::vector<BlockGraph> blocks(const Stack& stack, bool norm_before) {
  std::vector<BlockGraph> all;
  for (int64_t layer = 0; layer < stack.layers; ++layer) {
    all.push_back(block(stack, layer, norm_before));
  }
  return all;
}

BlockGraph tail(const Stack& stack, bool norm_before) {
  return norm_before ? norm_tail(stack.hidden, stack.prefix + "layer_norm", layer_norm())
                     : no_ops(stack.hidden);
}

EmbeddingSpec embedding(const ConfigReader& config, const Stack& stack, const BartTraits& traits,
                        bool scaled_by_default, const char* vocab_key = "vocab_size") {
  EmbeddingSpec spec;
  spec.tokens = "model.shared.weight";
  spec.vocab_size = config.positive(vocab_key);
  spec.width = stack.hidden;
  if (config.boolean("scale_embedding", scaled_by_default)) {
    spec.scale = std::sqrt(static_cast<float>(stack.hidden));
  }
  constexpr int64_t kOffset = 2;  // rows of the position table that stand for padding
  spec.position_kind = PositionKind::kLearned;
  spec.positions = stack.prefix + "embed_positions.weight";
  spec.position_rows = config.positive("max_position_embeddings", 1024) + kOffset;
  spec.position_offset = kOffset;
  spec.stem = traits.embedding_norm
                  ? norm_tail(stack.hidden, stack.prefix + "layernorm_embedding", layer_norm())
                  : no_ops(stack.hidden);
  return spec;
}

ModelGraph describe(const ConfigReader& config, const BartTraits& traits) {
  const Stack encoder = read_stack(config, "encoder", "gelu");
  const Stack decoder = read_stack(config, "decoder", "gelu");
  ModelGraph model;
  model.hidden_size = decoder.hidden;
  model.vocab_size = config.positive("vocab_size");
  model.max_positions = config.positive("max_position_embeddings", 1024);
  model.embedding = embedding(config, decoder, traits, false);
  model.blocks = blocks(decoder, traits.norm_before);
  model.head.tail = tail(decoder, traits.norm_before);
  model.head.matrix =
      config.boolean("tie_word_embeddings", true) ? "model.shared.weight" : "lm_head.weight";
  model.head.bias = "final_logits_bias";
  model.encoder =
      EncoderGraph{embedding(config, encoder, traits, false), blocks(encoder, traits.norm_before),
                   tail(encoder, traits.norm_before)};
  model.decoder_start = static_cast<int32_t>(config.non_negative("decoder_start_token_id", 2));
  return model;
}

// FairSeq's embedding: sinusoids from the row behind padding's on.
EmbeddingSpec fairseq_embedding(const ConfigReader& config, const Stack& stack,
                                const char* vocab_key) {
  EmbeddingSpec spec = embedding(config, stack, {.embedding_norm = false}, true, vocab_key);
  const int64_t padding = config.non_negative("pad_token_id", 1);
  spec.tokens = stack.prefix + "embed_tokens.weight";
  spec.position_kind = PositionKind::kSinusoidal;
  spec.position_offset = padding + 1;
  spec.position_rows = config.positive("max_position_embeddings", 1024) + padding + 1;
  return spec;
}

}  // namespace

ModelGraph describe_bart(const ConfigReader& config) { return describe(config, {}); }

ModelGraph describe_mbart(const ConfigReader& config) {
  ModelGraph model = describe(config, {.norm_before = true});
  model.decoder_start = kLastTargetToken;
  return model;
}

ModelGraph describe_fsmt(const ConfigReader& config) {
  const Stack encoder = read_stack(config, "encoder", "relu");
  const Stack decoder = read_stack(config, "decoder", "relu");
  ModelGraph model;
  model.hidden_size = decoder.hidden;
  model.vocab_size = config.positive("tgt_vocab_size");
  model.max_positions = config.positive("max_position_embeddings", 1024);
  model.embedding = fairseq_embedding(config, decoder, "tgt_vocab_size");
  model.blocks = blocks(decoder, false);
  model.head.tail = no_ops(decoder.hidden);
  model.head.matrix = "model.decoder.embed_tokens.weight";
  model.head.own_matrix = "model.decoder.output_projection.weight";
  model.encoder = EncoderGraph{fairseq_embedding(config, encoder, "src_vocab_size"),
                               blocks(encoder, false), no_ops(encoder.hidden)};
  model.decoder_start = static_cast<int32_t>(config.non_negative("decoder_start_token_id", 2));
  return model;
}

}  // namespace pare
