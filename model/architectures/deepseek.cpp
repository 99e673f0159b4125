// DeepSeek-V3 and R1 (DeepseekV3ForCausalLM): attention over compressed keys and values
// (DeepSeek-AI, 2024, arXiv:2412.19437), experts in groups beside a shared one.
#include <cmath>

#include "model/architectures/experts.h"
#include "model/architectures/families.h"
#include "model/architectures/llama_block.h"
#include "model/architectures/rotary.h"

namespace pare {
namespace {

struct LatentAttention {
  int64_t heads = 0;
  int64_t q_rank = 0;  ///< 0: queries are not compressed.
  int64_t kv_rank = 0;
  int64_t plain = 0;    ///< Channels of a head that do not rotate …
  int64_t rotated = 0;  ///< … and that do.
  int64_t value = 0;
  bool bias = false;
  NormSpec norm;
  RotaryShape rotary;
  AttentionSpec attention;
};

LatentAttention read_attention(const ConfigReader& config) {
  LatentAttention spec;
  spec.heads = config.positive("num_attention_heads");
  const bool plain_queries = config.json().contains("q_lora_rank") && !config.has("q_lora_rank");
  spec.q_rank = plain_queries ? 0 : config.positive("q_lora_rank", 1536);
  spec.kv_rank = config.positive("kv_lora_rank", 512);
  spec.plain = config.positive("qk_nope_head_dim", 128);
  spec.rotated = config.positive("qk_rope_head_dim", 64);
  spec.value = config.positive("v_head_dim", 128);
  spec.bias = config.boolean("attention_bias", false);
  spec.norm.epsilon = 1e-6F;  // its own, whatever rms_norm_eps says
  const int64_t head = spec.plain + spec.rotated;
  check_heads(config, spec.heads, spec.heads, std::max(head, spec.value));
  spec.rotary = read_rotary(config, spec.rotated);
  spec.rotary.head_dim = head;
  spec.rotary.first = spec.plain;
  spec.rotary.interleaved = config.boolean("rope_interleave", true);
  spec.attention.shape = {
      .heads = spec.heads,
      .kv_heads = spec.heads,
      .head_dim = head,
      .scale = attention_scale_factor(config) / std::sqrt(static_cast<float>(head))};
  spec.attention.shape.value_dim = spec.value;
  return spec;
}

Value latent_attention(BlockBuilder& b, Value x, const LatentAttention& spec) {
  const int64_t head = spec.plain + spec.rotated;
  Value q;
  if (spec.q_rank == 0) {
    q = b.linear(x, "self_attn.q_proj", spec.heads * head);
  } else {
    const Value low = b.linear(x, "self_attn.q_a_proj", spec.q_rank, {.bias = spec.bias});
    q = b.linear(b.norm(low, "self_attn.q_a_layernorm", spec.norm), "self_attn.q_b_proj",
                 spec.heads * head);
  }
  const Value low =
      b.linear(x, "self_attn.kv_a_proj_with_mqa", spec.kv_rank + spec.rotated, {.bias = spec.bias});
  const Value shared_key = b.slice(low, spec.kv_rank, spec.rotated);
  const Value latent = b.norm(b.slice(low, 0, spec.kv_rank), "self_attn.kv_a_layernorm", spec.norm);
  const int64_t both = spec.plain + spec.value;
  const Value kv = b.linear(latent, "self_attn.kv_b_proj", spec.heads * both);
  const Value key = b.slice_runs(kv, {.begin = 0, .count = spec.plain, .stride = both});
  const Value v = b.slice_runs(kv, {.begin = spec.plain, .count = spec.value, .stride = both});
  const Value k = b.rotary(b.join_heads(key, shared_key, spec.heads), spec.rotary);
  const Value context = b.attention(b.rotary(q, spec.rotary), k, v, spec.attention);
  return b.linear(context, "self_attn.o_proj", b.width(x), {.bias = spec.bias});
}

ExpertsSpec read_routing(const ConfigReader& config, int64_t hidden, int64_t intermediate,
                         Activation activation) {
  ExpertsSpec experts;
  read_experts(config, "n_routed_experts", 256, "num_experts_per_tok", 8, experts);
  experts.routing = Routing::kSigmoidGroups;
  experts.normalize = config.boolean("norm_topk_prob", true);
  experts.scale = static_cast<float>(config.number("routed_scaling_factor", 2.5));
  experts.groups = config.positive("n_group", 8);
  experts.chosen_groups = config.positive("topk_group", 4);
  if (experts.count % experts.groups != 0 || experts.chosen_groups > experts.groups ||
      experts.chosen > experts.count / experts.groups * experts.chosen_groups) {
    config.fail("n_routed_experts, n_group, topk_group and num_experts_per_tok do not go together");
  }
  experts.correction = "mlp.gate.e_score_correction_bias";
  experts.expert_prefix = "mlp.experts.";
  experts.expert =
      gated_expert(hidden, intermediate, activation, {"gate_proj", "up_proj", "down_proj"});
  experts.fused = fused_gated_experts("mlp.experts.", {"gate_proj", "up_proj", "down_proj"});
  return experts;
}

}  // namespace

ModelGraph describe_deepseek_v3(const ConfigReader& config) {
  TransformerShape shape;
  shape.hidden = config.positive("hidden_size");
  shape.vocab = config.positive("vocab_size");
  shape.layers = config.positive("num_hidden_layers");
  shape.max_positions = config.positive("max_position_embeddings", 4096);
  check_layers(config, shape.layers);
  const LatentAttention attention = read_attention(config);
  const NormSpec norm{.epsilon = static_cast<float>(config.number("rms_norm_eps", 1e-6))};
  const Activation activation = read_activation(config, "hidden_act", "silu");
  const int64_t intermediate = config.positive("intermediate_size");
  const int64_t expert_size = config.positive("moe_intermediate_size", 2048);
  const int64_t shared_size = config.positive("n_shared_experts", 1) * expert_size;
  const int64_t first_sparse = config.non_negative("first_k_dense_replace", 3);
  const ExpertsSpec experts = read_routing(config, shape.hidden, expert_size, activation);
  const GatedMlpNames shared{"mlp.shared_experts.gate_proj", "mlp.shared_experts.up_proj",
                             "mlp.shared_experts.down_proj"};
  ModelGraph model = llama_frame(config, shape, norm);
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    BlockBuilder b(llama_prefix(layer), shape.hidden);
    const Value x = b.norm(b.input(), "input_layernorm", norm);
    const Value middle = b.add(b.input(), latent_attention(b, x, attention));
    const Value y = b.norm(middle, "post_attention_layernorm", norm);
    if (layer < first_sparse) {
      model.blocks.push_back(
          b.finish(b.add(middle, gated_mlp(b, y, intermediate, activation, false))));
      continue;
    }
    const Value logits = b.linear(y, "mlp.gate", experts.count, {.keep = true, .wide = true});
    const Value stream = b.add(middle, gated_mlp(b, y, shared_size, activation, false, shared));
    model.blocks.push_back(b.finish(b.add(stream, b.experts(y, logits, experts))));
  }
  return model;
}

}  // namespace pare
