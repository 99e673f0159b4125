// OPT (OPTForCausalLM): norms before each half, or behind it (350M, which also has embeddings
// narrower than the model).
#include "model/architectures/families.h"
#include "model/architectures/transformer_config.h"

namespace pare {
namespace {

constexpr int64_t kPositionOffset = 2;  // rows of the position table that stand for padding

void set_embedding(const ConfigReader& config, const TransformerShape& shape, ModelGraph& model) {
  EmbeddingSpec& embedding = model.embedding;
  embedding.width = config.positive("word_embed_proj_dim", shape.hidden);
  embedding.position_kind = PositionKind::kLearned;
  embedding.positions = "model.decoder.embed_positions.weight";
  embedding.position_rows = shape.max_positions + kPositionOffset;
  embedding.position_offset = kPositionOffset;
  embedding.positions_after_stem = true;
  if (embedding.width == shape.hidden) return;
  BlockBuilder in("", embedding.width);
  embedding.stem = in.finish(in.linear(in.input(), "model.decoder.project_in", shape.hidden));
}

}  // namespace

ModelGraph describe_opt(const ConfigReader& config) {
  TransformerShape shape =
      read_shape(config, {.kv_heads = "", .head_dim = "", .intermediate = "ffn_dim"});
  const bool affine = config.boolean("layer_norm_elementwise_affine", true);
  const NormSpec norm{.centered = true, .weight = affine, .bias = affine, .epsilon = 1e-5F};
  const bool before = config.boolean("do_layer_norm_before", true);
  const Activation activation = read_activation(config, "activation_function", "relu");
  const LinearSpec linear{.bias = config.boolean("enable_bias", true)};
  ModelGraph model = make_frame(
      config, shape,
      {"model.decoder.embed_tokens.weight", "model.decoder.final_layer_norm", "lm_head.weight"},
      norm, true);
  set_embedding(config, shape, model);
  BlockBuilder tail("", shape.hidden);
  Value last = tail.input();
  if (before && !config.boolean("_remove_final_layer_norm", false)) {
    last = tail.norm(last, "model.decoder.final_layer_norm", norm);
  }
  if (model.embedding.width != shape.hidden) {
    last = tail.linear(last, "model.decoder.project_out", model.embedding.width);
  }
  model.head.tail = tail.finish(last);
  const AttentionSpec attention = causal_attention(shape);
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    BlockBuilder b("model.decoder.layers." + std::to_string(layer) + ".", shape.hidden);
    const Value x = before ? b.norm(b.input(), "self_attn_layer_norm", norm) : b.input();
    const Value q = b.linear(x, "self_attn.q_proj", shape.hidden, linear);
    const Value k = b.linear(x, "self_attn.k_proj", shape.hidden, linear);
    const Value v = b.linear(x, "self_attn.v_proj", shape.hidden, linear);
    const Value out =
        b.linear(b.attention(q, k, v, attention), "self_attn.out_proj", shape.hidden, linear);
    Value middle = b.add(b.input(), out);
    if (!before) middle = b.norm(middle, "self_attn_layer_norm", norm);
    const Value y = before ? b.norm(middle, "final_layer_norm", norm) : middle;
    const Value mlp = plain_mlp(b, y, shape.intermediate, activation, linear.bias, "fc1", "fc2");
    Value end = b.add(middle, mlp);
    if (!before) end = b.norm(end, "final_layer_norm", norm);
    model.blocks.push_back(b.finish(end));
  }
  return model;
}

}  // namespace pare
