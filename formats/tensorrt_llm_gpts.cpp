// Families of TensorRT-LLM with layer norms.
#include <array>

#include "formats/tensorrt_llm_llama.h"

namespace pare {
namespace {

using enum TrtKind;

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

constexpr auto kOpt = std::to_array<TrtModule>({
    {"self_attn_layer_norm", "input_layernorm", kNorm},
    {"self_attn.q_proj", "attention.qkv", kQuery},
    {"self_attn.k_proj", "attention.qkv", kKey},
    {"self_attn.v_proj", "attention.qkv", kValue},
    {"self_attn.out_proj", "attention.dense", kAttentionOut},
    {"final_layer_norm", "post_layernorm", kNorm},
    {"fc1", "mlp.fc", kUp},
    {"fc2", "mlp.proj", kDown},
});

constexpr auto kMpt = std::to_array<TrtModule>({
    {"norm_1", "input_layernorm", kNorm},
    {"attn.Wqkv", "attention.qkv", kQkv},
    {"attn.out_proj", "attention.dense", kAttentionOut},
    {"norm_2", "post_layernorm", kNorm},
    {"ffn.up_proj", "mlp.fc", kUp},
    {"ffn.down_proj", "mlp.proj", kDown},
});

// Falcon with a norm for each half (40B and 180B), and with one for both (7B, 11B); in sequence its
// layers are BLOOM's.
constexpr auto kFalconTwoNorms = std::to_array<TrtModule>({
    {"ln_attn", "input_layernorm", kNorm},
    {"ln_mlp", "mlp_layernorm", kNorm},
    {"self_attention.query_key_value", "attention.qkv", kQkvGroups},
    {"self_attention.dense", "attention.dense", kAttentionOut},
    {"mlp.dense_h_to_4h", "mlp.fc", kUp},
    {"mlp.dense_4h_to_h", "mlp.proj", kDown},
});

constexpr auto kFalconOneNorm = std::to_array<TrtModule>({
    {"input_layernorm", "input_layernorm", kNorm},
    {"self_attention.query_key_value", "attention.qkv", kQkvGroups},
    {"self_attention.dense", "attention.dense", kAttentionOut},
    {"mlp.dense_h_to_4h", "mlp.fc", kUp},
    {"mlp.dense_4h_to_h", "mlp.proj", kDown},
});

constexpr auto kOptSizes = std::to_array<TrtKey>({
    {"hidden_size", "hidden_size", ""},
    {"num_hidden_layers", "num_hidden_layers", ""},
    {"num_attention_heads", "num_attention_heads", ""},
    {"ffn_dim", "intermediate_size", ""},
    {"vocab_size", "vocab_size", ""},
    {"max_position_embeddings", "max_position_embeddings", ""},
});

constexpr auto kMptSizes = std::to_array<TrtKey>({
    {"d_model", "hidden_size", ""},
    {"n_layers", "num_hidden_layers", ""},
    {"n_heads", "num_attention_heads", ""},
    {"vocab_size", "vocab_size", ""},
});

constexpr auto kFalconSizes = std::to_array<TrtKey>({
    {"hidden_size", "hidden_size", ""},
    {"num_hidden_layers", "num_hidden_layers", ""},
    {"num_attention_heads", "num_attention_heads", ""},
    {"num_kv_heads", "num_key_value_heads", ""},
    {"ffn_hidden_size", "intermediate_size", ""},
    {"vocab_size", "vocab_size", ""},
});

// Its norms have the epsilon of the library.
constexpr auto kOptKeys = std::to_array<TrtKey>({
    {"layer_norm_eps", "norm_epsilon", "1e-5"},
    {"activation_function", "hidden_act", "\"relu\""},
    {"do_layer_norm_before", "do_layer_norm_before", "true"},
});

constexpr auto kMptKeys = std::to_array<TrtKey>({
    {"layer_norm_epsilon", "norm_epsilon", "1e-5"},
    {"max_seq_len", "max_position_embeddings", "2048"},
    {"hidden_act", "hidden_act", "\"gelu\""},
    {"attn_config.clip_qkv", "clip_qkv", "null"},
    {"attn_config.alibi_bias_max", "alibi_bias_max", "8"},
});

constexpr auto kFalconKeys = std::to_array<TrtKey>({
    {"layer_norm_epsilon", "norm_epsilon", "1e-5"},
    {"max_position_embeddings", "max_position_embeddings", "2048"},
    {"activation", "hidden_act", "\"gelu\""},
});

constexpr TrtFamily gpt(const char* architecture, const char* model_type, const char* variant) {
  TrtFamily family = trt_llama(architecture, model_type, "GPTForCausalLM", "gpt");
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
  TrtFamily family = gpt("GPT2LMHeadModel", "gpt2", R"({"gpt_variant": "gpt2"})");
  family.transposed = true;
  return family;
}

constexpr TrtFamily big_code() {
  TrtFamily family = gpt("GPTBigCodeForCausalLM", "gpt_bigcode", R"({"gpt_variant": "starcoder"})");
  family.keys = kBigCodeKeys;
  family.fixed = R"({"multi_query": true})";
  return family;
}

constexpr TrtFamily starcoder2() {
  TrtFamily family = trt_llama("Starcoder2ForCausalLM", "starcoder2", "GPTForCausalLM", "gpt");
  family.variant = R"({"gpt_variant": "starcoder2"})";
  family.modules = kStarcoder2;
  family.norms = TrtNorms::kLayerNorm;
  family.tied = true;
  family.keys = kStarcoder2Keys;
  family.rowwise_fp8 = false;
  return family;
}

constexpr TrtFamily neox() {
  TrtFamily family = trt_llama("GPTNeoXForCausalLM", "gpt_neox", "GPTNeoXForCausalLM", "gptneox");
  family.layers = "gpt_neox.layers.";
  family.modules = kNeoX;
  family.embedding = "gpt_neox.embed_in.weight";
  family.final_norm = "gpt_neox.final_layer_norm";
  family.head = "embed_out.weight";
  family.norms = TrtNorms::kLayerNorm;
  family.sizes = kNeoXSizes;
  family.keys = kNeoXKeys;
  family.input_norms = 2;
  family.fixed_mlp = family.fixed_epsilon = family.partial_rotary = true;
  family.plugin_int8 = family.rowwise_fp8 = false;
  return family;
}

constexpr TrtFamily bloom() {
  TrtFamily family = trt_llama("BloomForCausalLM", "bloom", "BloomForCausalLM", "bloom");
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

constexpr TrtFamily opt() {
  TrtFamily family = trt_llama("OPTForCausalLM", "opt", "OPTForCausalLM", "opt");
  family.layers = "model.decoder.layers.";
  family.modules = kOpt;
  family.embedding = "model.decoder.embed_tokens.weight";
  family.positions = "model.decoder.embed_positions.weight";
  family.target_positions = "transformer.position_embedding.weight";
  family.position_offset = 2;
  family.final_norm = "model.decoder.final_layer_norm";
  family.norms = TrtNorms::kLayerNorm;
  family.tied = true;
  family.position_embedding_type = "learned_absolute";
  family.sizes = kOptSizes;
  family.keys = kOptKeys;
  family.fixed_mlp = family.fixed_epsilon = true;
  family.plugin_int8 = family.rowwise_fp8 = false;
  return family;
}

constexpr TrtFamily mpt() {
  TrtFamily family = trt_llama("MptForCausalLM", "mpt", "MPTForCausalLM", "mpt",
                               R"({"no_bias": true, "attn_config": {"alibi": true}})");
  family.layers = "transformer.blocks.";
  family.modules = kMpt;
  family.embedding = "transformer.wte.weight";
  family.final_norm = "transformer.norm_f";
  family.norms = TrtNorms::kLayerNormPlain;
  family.tied = true;
  family.position_embedding_type = "alibi";
  family.sizes = kMptSizes;
  family.keys = kMptKeys;
  family.fixed_mlp = family.fixed_epsilon = true;
  family.plugin_int8 = family.rowwise_fp8 = false;
  return family;
}

constexpr TrtFamily falcon(std::span<const TrtModule> modules, const char* variant,
                           const char* fixed) {
  TrtFamily family = trt_llama("FalconForCausalLM", "falcon", "FalconForCausalLM", "falcon", fixed);
  family.variant = variant;
  family.layers = "transformer.h.";
  family.modules = modules;
  family.embedding = "transformer.word_embeddings.weight";
  family.final_norm = "transformer.ln_f";
  family.norms = TrtNorms::kLayerNorm;
  family.tied = true;
  family.sizes = kFalconSizes;
  family.keys = kFalconKeys;
  family.fixed_rotary = true;
  family.plugin_int8 = family.rowwise_fp8 = false;
  return family;
}

constexpr TrtFamily falcon_two_norms() {
  TrtFamily family =
      falcon(kFalconTwoNorms, R"({"new_decoder_architecture": true, "parallel_attention": true})",
             R"({"new_decoder_architecture": true, "alibi": false})");
  family.input_norms = 2;
  return family;
}

constexpr TrtFamily falcon_one_norm() {
  return falcon(kFalconOneNorm,
                R"({"new_decoder_architecture": false, "parallel_attention": true})",
                R"({"new_decoder_architecture": true, "num_ln_in_parallel_attn": 1,
                    "alibi": false})");
}

constexpr TrtFamily falcon_serial() {
  return falcon(kBloom, R"({"new_decoder_architecture": false, "parallel_attention": false})",
                R"({"new_decoder_architecture": false, "parallel_attn": false,
                    "alibi": false})");
}

constexpr std::array kGpts = std::to_array<TrtFamily>({
    gpt2(),
    big_code(),
    starcoder2(),
    neox(),
    bloom(),
    opt(),
    mpt(),
    falcon_two_norms(),
    falcon_one_norm(),
    falcon_serial(),
});

}  // namespace

std::span<const TrtFamily> trt_layer_norm_families() { return kGpts; }

}  // namespace pare
