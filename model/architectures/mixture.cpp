// Llama's block with experts: Mixtral (MixtralForCausalLM), Qwen3-MoE (Qwen3MoeForCausalLM),
// gpt-oss (GptOssForCausalLM).
#include <algorithm>

#include "model/architectures/experts.h"
#include "model/architectures/families.h"
#include "model/architectures/llama_block.h"
#include "model/architectures/rotary.h"

namespace pare {
namespace {

NormSpec read_norm(const ConfigReader& config, double epsilon) {
  return {.epsilon = static_cast<float>(config.number("rms_norm_eps", epsilon))};
}

// Layers of Qwen3-MoE that have a plain MLP.
bool is_plain(const ConfigReader& config, int64_t layer) {
  const nlohmann::json plain =
      config.has("mlp_only_layers") ? config.json().at("mlp_only_layers") : nlohmann::json::array();
  if (!plain.is_array())
    config.fail("\"mlp_only_layers\" is " + plain.dump() + ", expected a list");
  const bool listed = std::any_of(plain.begin(), plain.end(), [&](const nlohmann::json& entry) {
    return entry.is_number_integer() && entry.get<int64_t>() == layer;
  });
  return listed || (layer + 1) % config.positive("decoder_sparse_step", 1) != 0;
}

}  // namespace

ModelGraph describe_mixtral(const ConfigReader& config) {
  const TransformerShape shape = read_shape(config);
  const NormSpec norm = read_norm(config, 1e-5);
  ModelGraph model = llama_frame(config, shape, norm);
  LlamaAttention attention;
  attention.rotary = read_rotary(config, shape.head_dim, {.theta = 1e6});
  attention.attention = causal_attention(shape);
  attention.attention.shape.window = read_window(config, 0);
  ExpertsSpec experts;
  read_experts(config, "num_local_experts", 8, "num_experts_per_tok", 2, experts);
  experts.normalize = true;
  experts.expert_prefix = "block_sparse_moe.experts.";
  experts.expert = gated_expert(shape.hidden, shape.intermediate,
                                read_activation(config, "hidden_act", "silu"), {"w1", "w3", "w2"});
  experts.fused = fused_gated_experts("mlp.experts.", {"w1", "w3", "w2"});
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    model.blocks.push_back(llama_block(
        {llama_prefix(layer), shape.hidden}, norm, attention, [&](BlockBuilder& b, Value x) {
          const Value logits =
              b.linear(x, "block_sparse_moe.gate", experts.count, {.keep = true, .wide = true});
          return b.experts(x, logits, experts);
        }));
  }
  return model;
}

ModelGraph describe_qwen3_moe(const ConfigReader& config) {
  const TransformerShape shape = read_shape(config);
  const NormSpec norm = read_norm(config, 1e-6);
  const Activation activation = read_activation(config, "hidden_act", "silu");
  ModelGraph model = llama_frame(config, shape, norm);
  LlamaAttention attention;
  attention.qkv_bias = attention.output_bias = config.boolean("attention_bias", false);
  attention.head_norm = norm;
  attention.rotary = read_rotary(config, shape.head_dim);
  attention.attention = causal_attention(shape);
  if (config.boolean("use_sliding_window", false)) {
    attention.attention.shape.window = read_window(config, 4096);
  }
  ExpertsSpec experts;
  const char* count = config.has("num_experts") ? "num_experts" : "num_local_experts";
  read_experts(config, count, 128, "num_experts_per_tok", 8, experts);
  experts.normalize = config.boolean("norm_topk_prob", false);
  experts.expert_prefix = "mlp.experts.";
  experts.expert = gated_expert(shape.hidden, config.positive("moe_intermediate_size", 768),
                                activation, {"gate_proj", "up_proj", "down_proj"});
  experts.fused = fused_gated_experts("mlp.experts.", {"gate_proj", "up_proj", "down_proj"});
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    model.blocks.push_back(llama_block(
        {llama_prefix(layer), shape.hidden}, norm, attention, [&](BlockBuilder& b, Value x) {
          if (is_plain(config, layer)) {
            return gated_mlp(b, x, shape.intermediate, activation, false);
          }
          return b.experts(x, b.linear(x, "mlp.gate", experts.count, {.keep = true, .wide = true}),
                           experts);
        }));
  }
  return model;
}

ModelGraph describe_gpt_oss(const ConfigReader& config) {
  const TransformerShape shape =
      read_shape(config, {.default_head_dim = 64});  // what GptOssConfig has
  const NormSpec norm = read_norm(config, 1e-5);
  ModelGraph model = llama_frame(config, shape, norm);
  LlamaAttention attention;
  attention.qkv_bias = attention.output_bias = config.boolean("attention_bias", true);
  attention.rotary = read_rotary(config, shape.head_dim, {.theta = 150000});
  attention.attention = causal_attention(shape);
  attention.attention.sinks = true;
  attention.sinks = "self_attn.sinks";
  ExpertsSpec experts;
  read_experts(config, "num_local_experts", 128, "num_experts_per_tok", 4, experts);
  experts.routing = Routing::kSoftmaxOfChosen;
  experts.expert_prefix = "mlp.experts.";
  experts.expert = clamped_swiglu_expert(shape.hidden, shape.intermediate);
  experts.fused = {{"gate_up_proj.weight", "mlp.experts.gate_up_proj"},
                   {"gate_up_proj.bias", "mlp.experts.gate_up_proj_bias"},
                   {"down_proj.weight", "mlp.experts.down_proj"},
                   {"down_proj.bias", "mlp.experts.down_proj_bias"}};
  const int64_t window = read_window(config, 128);
  const std::vector<bool> sliding =
      read_sliding_layers(config, shape.layers, [](int64_t layer) { return layer % 2 == 0; });
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    attention.attention.shape.window = sliding[static_cast<size_t>(layer)] ? window : 0;
    model.blocks.push_back(llama_block(
        {llama_prefix(layer), shape.hidden}, norm, attention, [&](BlockBuilder& b, Value x) {
          const Value logits =
              b.linear(x, "mlp.router", experts.count, {.bias = true, .keep = true, .wide = true});
          return b.experts(x, logits, experts);
        }));
  }
  return model;
}

}  // namespace pare
