#include "formats/tensorrt_llm_families.h"

#include <algorithm>
#include <array>

namespace pare {
namespace {

using enum TrtKind;

// "fc" is the branch that goes through the activation, whatever its name may suggest.
constexpr auto kLlama = std::to_array<TrtModule>({
    {"input_layernorm", "input_layernorm", kNorm},
    {"self_attn.q_proj", "attention.qkv", kQuery},
    {"self_attn.k_proj", "attention.qkv", kKey},
    {"self_attn.v_proj", "attention.qkv", kValue},
    {"self_attn.o_proj", "attention.dense", kAttentionOut},
    {"post_attention_layernorm", "post_layernorm", kNorm},
    {"mlp.gate_proj", "mlp.fc", kUp},
    {"mlp.up_proj", "mlp.gate", kUp},
    {"mlp.down_proj", "mlp.proj", kDown},
});

constexpr auto kQwen3 = std::to_array<TrtModule>({
    {"input_layernorm", "input_layernorm", kNorm},
    {"self_attn.q_proj", "attention.qkv", kQuery},
    {"self_attn.k_proj", "attention.qkv", kKey},
    {"self_attn.v_proj", "attention.qkv", kValue},
    {"self_attn.q_norm", "attention.q_layernorm", kHeadNorm},
    {"self_attn.k_norm", "attention.k_layernorm", kHeadNorm},
    {"self_attn.o_proj", "attention.dense", kAttentionOut},
    {"post_attention_layernorm", "post_layernorm", kNorm},
    {"mlp.gate_proj", "mlp.fc", kUp},
    {"mlp.up_proj", "mlp.gate", kUp},
    {"mlp.down_proj", "mlp.proj", kDown},
});

// Of an expert's two halves the one without activation comes first.
constexpr auto kMixtral = std::to_array<TrtModule>({
    {"input_layernorm", "input_layernorm", kNorm},
    {"self_attn.q_proj", "attention.qkv", kQuery},
    {"self_attn.k_proj", "attention.qkv", kKey},
    {"self_attn.v_proj", "attention.qkv", kValue},
    {"self_attn.o_proj", "attention.dense", kAttentionOut},
    {"post_attention_layernorm", "post_layernorm", kNorm},
    {"block_sparse_moe.gate", "mlp.router", kRouter},
    {"block_sparse_moe.experts.{}.w3", "mlp.fc", kExpertUp},
    {"block_sparse_moe.experts.{}.w1", "mlp.fc", kExpertUp},
    {"block_sparse_moe.experts.{}.w2", "mlp.proj", kExpertDown},
});

constexpr auto kGpt2 = std::to_array<TrtModule>({
    {"ln_1", "input_layernorm", kNorm},
    {"attn.c_attn", "attention.qkv", kQkv},
    {"attn.c_proj", "attention.dense", kAttentionOut},
    {"ln_2", "post_layernorm", kNorm},
    {"mlp.c_fc", "mlp.fc", kUp},
    {"mlp.c_proj", "mlp.proj", kDown},
});

constexpr auto kStarcoder2 = std::to_array<TrtModule>({
    {"input_layernorm", "input_layernorm", kNorm},
    {"self_attn.q_proj", "attention.qkv", kQuery},
    {"self_attn.k_proj", "attention.qkv", kKey},
    {"self_attn.v_proj", "attention.qkv", kValue},
    {"self_attn.o_proj", "attention.dense", kAttentionOut},
    {"post_attention_layernorm", "post_layernorm", kNorm},
    {"mlp.c_fc", "mlp.fc", kUp},
    {"mlp.c_proj", "mlp.proj", kDown},
});

constexpr auto kPhi3 = std::to_array<TrtModule>({
    {"input_layernorm", "input_layernorm", kNorm},
    {"self_attn.qkv_proj", "attention.qkv", kQkv},
    {"self_attn.o_proj", "attention.dense", kAttentionOut},
    {"post_attention_layernorm", "post_layernorm", kNorm},
    {"mlp.gate_up_proj", "mlp.fc", kGateUp},
    {"mlp.down_proj", "mlp.proj", kDown},
});

constexpr auto kNeoX = std::to_array<TrtModule>({
    {"input_layernorm", "input_layernorm", kNorm},
    {"attention.query_key_value", "attention.qkv", kQkvGroups},
    {"attention.dense", "attention.dense", kAttentionOut},
    {"post_attention_layernorm", "post_attention_layernorm", kNorm},
    {"mlp.dense_h_to_4h", "mlp.fc", kUp},
    {"mlp.dense_4h_to_h", "mlp.proj", kDown},
});

constexpr auto kBloom = std::to_array<TrtModule>({
    {"input_layernorm", "input_layernorm", kNorm},
    {"self_attention.query_key_value", "attention.qkv", kQkvGroups},
    {"self_attention.dense", "attention.dense", kAttentionOut},
    {"post_attention_layernorm", "post_layernorm", kNorm},
    {"mlp.dense_h_to_4h", "mlp.fc", kUp},
    {"mlp.dense_4h_to_h", "mlp.proj", kDown},
});

constexpr auto kLlamaSizes = std::to_array<TrtKey>({
    {"hidden_size", "hidden_size", ""},
    {"num_hidden_layers", "num_hidden_layers", ""},
    {"num_attention_heads", "num_attention_heads", ""},
    {"num_key_value_heads", "num_key_value_heads", ""},
    {"head_dim", "head_size", ""},
    {"intermediate_size", "intermediate_size", ""},
    {"vocab_size", "vocab_size", ""},
});

constexpr auto kGptSizes = std::to_array<TrtKey>({
    {"n_embd", "hidden_size", ""},
    {"n_layer", "num_hidden_layers", ""},
    {"n_head", "num_attention_heads", ""},
    {"n_inner", "intermediate_size", ""},
    {"vocab_size", "vocab_size", ""},
    {"n_positions", "max_position_embeddings", ""},
});

constexpr auto kNeoXSizes = std::to_array<TrtKey>({
    {"hidden_size", "hidden_size", ""},
    {"num_hidden_layers", "num_hidden_layers", ""},
    {"num_attention_heads", "num_attention_heads", ""},
    {"intermediate_size", "intermediate_size", ""},
    {"vocab_size", "vocab_size", ""},
});

constexpr auto kBloomSizes = std::to_array<TrtKey>({
    {"hidden_size", "hidden_size", ""},
    {"n_layer", "num_hidden_layers", ""},
    {"n_head", "num_attention_heads", ""},
    {"vocab_size", "vocab_size", ""},
});

constexpr auto kLlamaKeys = std::to_array<TrtKey>({
    {"rms_norm_eps", "norm_epsilon", "1e-6"},
    {"max_position_embeddings", "max_position_embeddings", "2048"},
    {"hidden_act", "hidden_act", "\"silu\""},
});

constexpr auto kPhi3Keys = std::to_array<TrtKey>({
    {"rms_norm_eps", "norm_epsilon", "1e-5"},
    {"max_position_embeddings", "max_position_embeddings", "4096"},
});

constexpr auto kNeoXKeys = std::to_array<TrtKey>({
    {"layer_norm_eps", "norm_epsilon", "1e-5"},
    {"max_position_embeddings", "max_position_embeddings", "2048"},
    {"hidden_act", "hidden_act", "\"gelu\""},
    {"rotary_pct", "rotary_pct", "0.25"},
});

constexpr auto kBloomKeys = std::to_array<TrtKey>({
    {"layer_norm_epsilon", "norm_epsilon", "1e-5"},
    {"seq_length", "max_position_embeddings", "2048"},
    {"hidden_act", "hidden_act", "\"gelu\""},
});

constexpr auto kMixtralKeys = std::to_array<TrtKey>({
    {"rms_norm_eps", "norm_epsilon", "1e-5"},
    {"max_position_embeddings", "max_position_embeddings", "131072"},
});

constexpr auto kGpt2Keys = std::to_array<TrtKey>({
    {"layer_norm_epsilon", "norm_epsilon", "1e-5"},
    {"activation_function", "hidden_act", "\"gelu_new\""},
});

constexpr auto kBigCodeKeys = std::to_array<TrtKey>({
    {"layer_norm_epsilon", "norm_epsilon", "1e-5"},
    {"activation_function", "hidden_act", "\"gelu_pytorch_tanh\""},
});

constexpr auto kStarcoder2Keys = std::to_array<TrtKey>({
    {"norm_epsilon", "norm_epsilon", "1e-5"},
    {"max_position_embeddings", "max_position_embeddings", "4096"},
    {"hidden_act", "hidden_act", "\"gelu_pytorch_tanh\""},
});

// The engine is told a window when it runs, not by the checkpoint.
constexpr const char* kNoWindow = R"({"sliding_window": null})";

constexpr TrtFamily llama(const char* architecture, const char* model_type, const char* target,
                          const char* decoder, const char* variant, const char* fixed = "{}") {
  return {.architecture = architecture,
          .model_type = model_type,
          .target = target,
          .decoder = decoder,
          .variant_key = *variant == '\0' ? "" : "qwen_type",
          .variant = variant,
          .layers = "model.layers.",
          .target_layers = "transformer.layers.",
          .modules = kLlama,
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
          .sizes = kLlamaSizes,
          .keys = kLlamaKeys,
          .fixed = fixed,
          .fixed_parallel = false,
          .plugin_int8 = true,
          .rowwise_fp8 = true};
}

constexpr TrtFamily qwen3() {
  TrtFamily family = llama("Qwen3ForCausalLM", "qwen3", "Qwen3ForCausalLM", "qwen", "qwen3");
  family.modules = kQwen3;
  family.plugin_int8 = family.rowwise_fp8 = false;
  return family;
}

constexpr TrtFamily mixtral() {
  TrtFamily family = llama("MixtralForCausalLM", "mixtral", "MixtralForCausalLM", "llama", "");
  family.modules = kMixtral;
  family.keys = kMixtralKeys;
  family.fixed = kNoWindow;
  family.plugin_int8 = family.rowwise_fp8 = false;
  return family;
}

constexpr TrtFamily phi3() {
  TrtFamily family = llama("Phi3ForCausalLM", "phi3", "Phi3ForCausalLM", "phi3", "", kNoWindow);
  family.modules = kPhi3;
  family.keys = kPhi3Keys;
  family.plugin_int8 = family.rowwise_fp8 = false;
  return family;
}

constexpr TrtFamily neox() {
  TrtFamily family = llama("GPTNeoXForCausalLM", "gpt_neox", "GPTNeoXForCausalLM", "gptneox", "");
  family.layers = "gpt_neox.layers.";
  family.modules = kNeoX;
  family.embedding = "gpt_neox.embed_in.weight";
  family.final_norm = "gpt_neox.final_layer_norm";
  family.head = "embed_out.weight";
  family.norms = TrtNorms::kLayerNorm;
  family.sizes = kNeoXSizes;
  family.keys = kNeoXKeys;
  family.fixed_parallel = true;
  family.plugin_int8 = family.rowwise_fp8 = false;
  return family;
}

constexpr TrtFamily bloom() {
  TrtFamily family = llama("BloomForCausalLM", "bloom", "BloomForCausalLM", "bloom", "");
  family.layers = "transformer.h.";
  family.modules = kBloom;
  family.embedding = "transformer.word_embeddings.weight";
  family.embedding_norm = "transformer.word_embeddings_layernorm";
  family.target_embedding_norm = "transformer.ln_embed";
  family.final_norm = "transformer.ln_f";
  family.norms = TrtNorms::kLayerNorm;
  family.tied = true;
  family.position_embedding_type = "alibi";
  family.sizes = kBloomSizes;
  family.keys = kBloomKeys;
  family.rowwise_fp8 = false;
  return family;
}

constexpr TrtFamily gpt(const char* architecture, const char* model_type, const char* variant) {
  TrtFamily family = llama(architecture, model_type, "GPTForCausalLM", "gpt", "");
  family.variant_key = "gpt_variant";
  family.variant = variant;
  family.layers = "transformer.h.";
  family.modules = kGpt2;
  family.embedding = "transformer.wte.weight";
  family.positions = "transformer.wpe.weight";
  family.target_positions = "transformer.position_embedding.weight";
  family.final_norm = "transformer.ln_f";
  family.norms = TrtNorms::kLayerNorm;
  family.tied = true;
  family.position_embedding_type = "learned_absolute";
  family.sizes = kGptSizes;
  family.keys = kGpt2Keys;
  family.rowwise_fp8 = false;
  return family;
}

constexpr TrtFamily gpt2() {
  TrtFamily family = gpt("GPT2LMHeadModel", "gpt2", "gpt2");
  family.transposed = true;
  return family;
}

constexpr TrtFamily big_code() {
  TrtFamily family = gpt("GPTBigCodeForCausalLM", "gpt_bigcode", "starcoder");
  family.keys = kBigCodeKeys;
  family.fixed = R"({"multi_query": true})";
  return family;
}

constexpr TrtFamily starcoder2() {
  TrtFamily family = llama("Starcoder2ForCausalLM", "starcoder2", "GPTForCausalLM", "gpt", "");
  family.variant_key = "gpt_variant";
  family.variant = "starcoder2";
  family.modules = kStarcoder2;
  family.norms = TrtNorms::kLayerNorm;
  family.tied = true;
  family.keys = kStarcoder2Keys;
  family.rowwise_fp8 = false;
  return family;
}

constexpr std::array kDecoders = std::to_array<TrtFamily>({
    llama("LlamaForCausalLM", "llama", "LlamaForCausalLM", "llama", ""),
    llama("MistralForCausalLM", "mistral", "MistralForCausalLM", "llama", "", kNoWindow),
    mixtral(),
    llama("Qwen2ForCausalLM", "qwen2", "Qwen2ForCausalLM", "qwen", "qwen2"),
    qwen3(),
    gpt2(),
    big_code(),
    starcoder2(),
    phi3(),
    neox(),
    bloom(),
});

const TrtFamily* find(std::span<const TrtFamily> families, std::string_view architecture) {
  const auto found = std::ranges::find_if(
      families, [&](const TrtFamily& family) { return family.architecture == architecture; });
  return found == families.end() ? nullptr : &*found;
}

std::string text_of(const nlohmann::ordered_json& config, const char* key) {
  const auto found = config.find(key);
  return found != config.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace

const TrtFamily* find_trt_family(std::string_view architecture) {
  return find(kDecoders, architecture);
}

const TrtFamily* find_trt_target(const nlohmann::ordered_json& config) {
  const std::string architecture = text_of(config, "architecture");
  const auto search = [&](std::span<const TrtFamily> families) -> const TrtFamily* {
    const TrtFamily* first = nullptr;
    for (const TrtFamily& family : families) {
      if (architecture != family.target && architecture != family.architecture) continue;
      // Files that do not tell the variants apart mean the first.
      if (first == nullptr) first = &family;
      if (*family.variant_key != '\0' && text_of(config, family.variant_key) == family.variant) {
        return &family;
      }
    }
    return first;
  };
  if (const TrtFamily* family = search(kDecoders); family != nullptr) return family;
  if (const TrtFamily* family = search(trt_encoder_halves()); family != nullptr) return family;
  return search(trt_decoder_halves());
}

const TrtFamily* find_trt_encoder(std::string_view architecture) {
  return find(trt_encoder_halves(), architecture);
}

const TrtFamily* find_trt_decoder(std::string_view architecture) {
  return find(trt_decoder_halves(), architecture);
}

std::string known_trt_families() {
  std::string names;
  for (const std::span<const TrtFamily> families :
       {std::span<const TrtFamily>(kDecoders), trt_encoder_halves()}) {
    for (const TrtFamily& family : families) {
      names += std::string(names.empty() ? "" : ", ") + family.architecture;
    }
  }
  return names;
}

}  // namespace pare
