// Llama in TensorRT-LLM's tables, and with that what most decoders there have in common.
//
//   constexpr TrtFamily mine() {
//     TrtFamily family = trt_llama("MineForCausalLM", "mine", "MineForCausalLM", "mine");
//     family.modules = kMine;
#pragma once

#include <array>

#include "formats/tensorrt_llm_families.h"

namespace pare {

// "fc" is the branch that goes through the activation, whatever its name may suggest.
inline constexpr auto kTrtLlama = std::to_array<TrtModule>({
    {"input_layernorm", "input_layernorm", TrtKind::kNorm},
    {"self_attn.q_proj", "attention.qkv", TrtKind::kQuery},
    {"self_attn.k_proj", "attention.qkv", TrtKind::kKey},
    {"self_attn.v_proj", "attention.qkv", TrtKind::kValue},
    {"self_attn.o_proj", "attention.dense", TrtKind::kAttentionOut},
    {"post_attention_layernorm", "post_layernorm", TrtKind::kNorm},
    {"mlp.gate_proj", "mlp.fc", TrtKind::kUp},
    {"mlp.up_proj", "mlp.gate", TrtKind::kUp},
    {"mlp.down_proj", "mlp.proj", TrtKind::kDown},
});

inline constexpr auto kTrtLlamaSizes = std::to_array<TrtKey>({
    {"hidden_size", "hidden_size", ""},
    {"num_hidden_layers", "num_hidden_layers", ""},
    {"num_attention_heads", "num_attention_heads", ""},
    {"num_key_value_heads", "num_key_value_heads", ""},
    {"head_dim", "head_size", ""},
    {"intermediate_size", "intermediate_size", ""},
    {"vocab_size", "vocab_size", ""},
});

inline constexpr auto kTrtLlamaKeys = std::to_array<TrtKey>({
    {"rms_norm_eps", "norm_epsilon", "1e-6"},
    {"max_position_embeddings", "max_position_embeddings", "2048"},
    {"hidden_act", "hidden_act", "\"silu\""},
});

constexpr TrtFamily trt_llama(const char* architecture, const char* model_type, const char* target,
                              const char* decoder, const char* fixed = "{}") {
  return {.architecture = architecture,
          .model_type = model_type,
          .target = target,
          .decoder = decoder,
          .variant = "{}",
          .layers = "model.layers.",
          .target_layers = "transformer.layers.",
          .modules = kTrtLlama,
          .embedding = "model.embed_tokens.weight",
          .target_embedding = "transformer.vocab_embedding.weight",
          .positions = "",
          .target_positions = "",
          .position_offset = 0,
          .embedding_norm = "",
          .target_embedding_norm = "",
          .final_norm = "model.norm",
          .target_final_norm = "transformer.ln_f",
          .head = "lm_head.weight",
          .norms = TrtNorms::kRms,
          .tied = false,
          .transposed = false,
          .position_embedding_type = "rope_gpt_neox",
          .sizes = kTrtLlamaSizes,
          .keys = kTrtLlamaKeys,
          .fixed = fixed,
          .input_norms = 1,
          .fixed_mlp = false,
          .fixed_epsilon = false,
          .fixed_rotary = false,
          .partial_rotary = false,
          .plugin_int8 = true,
          .rowwise_fp8 = true};
}

}  // namespace pare
