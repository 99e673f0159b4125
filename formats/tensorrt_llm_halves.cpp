// Encoder-decoder models: tensorrt_llm/models/enc_dec, with a folder for each half.
#include <array>

#include "formats/tensorrt_llm_families.h"

namespace pare {
namespace {

using enum TrtKind;

constexpr auto kT5Encoder = std::to_array<TrtModule>({
    {"layer.0.layer_norm", "attention_layernorm", kNorm},
    {"layer.0.SelfAttention.q", "attention.qkv", kQuery},
    {"layer.0.SelfAttention.k", "attention.qkv", kKey},
    {"layer.0.SelfAttention.v", "attention.qkv", kValue},
    {"layer.0.SelfAttention.o", "attention.dense", kAttentionOut},
    {"layer.0.SelfAttention.relative_attention_bias", "attention.rel_attn_table", kRelativeBias},
    {"layer.1.layer_norm", "mlp_layernorm", kNorm},
    {"layer.1.DenseReluDense.wi", "mlp.fc", kUp, TrtWhen::kPlain},
    {"layer.1.DenseReluDense.wi_0", "mlp.fc", kUp, TrtWhen::kGated},
    {"layer.1.DenseReluDense.wi_1", "mlp.gate", kUp, TrtWhen::kGated},
    {"layer.1.DenseReluDense.wo", "mlp.proj", kDown},
});

constexpr auto kT5Decoder = std::to_array<TrtModule>({
    {"layer.0.layer_norm", "self_attention_layernorm", kNorm},
    {"layer.0.SelfAttention.q", "self_attention.qkv", kQuery},
    {"layer.0.SelfAttention.k", "self_attention.qkv", kKey},
    {"layer.0.SelfAttention.v", "self_attention.qkv", kValue},
    {"layer.0.SelfAttention.o", "self_attention.dense", kAttentionOut},
    {"layer.0.SelfAttention.relative_attention_bias", "self_attention.rel_attn_table",
     kRelativeBias},
    {"layer.1.layer_norm", "cross_attention_layernorm", kNorm},
    {"layer.1.EncDecAttention.q", "cross_attention.qkv", kQuery},
    {"layer.1.EncDecAttention.k", "cross_attention.qkv", kKey},
    {"layer.1.EncDecAttention.v", "cross_attention.qkv", kValue},
    {"layer.1.EncDecAttention.o", "cross_attention.dense", kAttentionOut},
    {"layer.2.layer_norm", "mlp_layernorm", kNorm},
    {"layer.2.DenseReluDense.wi", "mlp.fc", kUp, TrtWhen::kPlain},
    {"layer.2.DenseReluDense.wi_0", "mlp.fc", kUp, TrtWhen::kGated},
    {"layer.2.DenseReluDense.wi_1", "mlp.gate", kUp, TrtWhen::kGated},
    {"layer.2.DenseReluDense.wo", "mlp.proj", kDown},
});

constexpr auto kBartEncoder = std::to_array<TrtModule>({
    {"self_attn.q_proj", "attention.qkv", kQuery},
    {"self_attn.k_proj", "attention.qkv", kKey},
    {"self_attn.v_proj", "attention.qkv", kValue},
    {"self_attn.out_proj", "attention.dense", kAttentionOut},
    {"self_attn_layer_norm", "attention_layernorm", kNorm},
    {"fc1", "mlp.fc", kUp},
    {"fc2", "mlp.proj", kDown},
    {"final_layer_norm", "mlp_layernorm", kNorm},
});

constexpr auto kBartDecoder = std::to_array<TrtModule>({
    {"self_attn.q_proj", "self_attention.qkv", kQuery},
    {"self_attn.k_proj", "self_attention.qkv", kKey},
    {"self_attn.v_proj", "self_attention.qkv", kValue},
    {"self_attn.out_proj", "self_attention.dense", kAttentionOut},
    {"self_attn_layer_norm", "self_attention_layernorm", kNorm},
    {"encoder_attn.q_proj", "cross_attention.qkv", kQuery},
    {"encoder_attn.k_proj", "cross_attention.qkv", kKey},
    {"encoder_attn.v_proj", "cross_attention.qkv", kValue},
    {"encoder_attn.out_proj", "cross_attention.dense", kAttentionOut},
    {"encoder_attn_layer_norm", "cross_attention_layernorm", kNorm},
    {"fc1", "mlp.fc", kUp},
    {"fc2", "mlp.proj", kDown},
    {"final_layer_norm", "mlp_layernorm", kNorm},
});

constexpr auto kT5EncoderSizes = std::to_array<TrtKey>({
    {"d_model", "hidden_size", ""},
    {"num_layers", "num_hidden_layers", ""},
    {"num_heads", "num_attention_heads", ""},
    {"d_kv", "head_size", ""},
    {"d_ff", "ffn_hidden_size", ""},
    {"vocab_size", "vocab_size", ""},
});

constexpr auto kT5DecoderSizes = std::to_array<TrtKey>({
    {"num_decoder_layers", "num_hidden_layers", ""},
});

constexpr auto kBartEncoderSizes = std::to_array<TrtKey>({
    {"d_model", "hidden_size", ""},
    {"encoder_layers", "num_hidden_layers", ""},
    {"encoder_attention_heads", "num_attention_heads", ""},
    {"encoder_ffn_dim", "ffn_hidden_size", ""},
    {"vocab_size", "vocab_size", ""},
    {"max_position_embeddings", "max_position_embeddings", ""},
});

constexpr auto kBartDecoderSizes = std::to_array<TrtKey>({
    {"decoder_layers", "num_hidden_layers", ""},
    {"decoder_attention_heads", "num_attention_heads", ""},
    {"decoder_ffn_dim", "ffn_hidden_size", ""},
});

constexpr auto kT5Keys = std::to_array<TrtKey>({
    {"layer_norm_epsilon", "norm_epsilon", "1e-6"},
    {"n_positions", "max_position_embeddings", "512"},
    {"relative_attention_num_buckets", "num_buckets", "32"},
    {"relative_attention_max_distance", "max_distance", "128"},
});

// The norms of BART have the epsilon of the library, whatever a file says.
constexpr auto kBartKeys = std::to_array<TrtKey>({
    {"layer_norm_epsilon", "norm_epsilon", "1e-5"},
    {"activation_function", "hidden_act", "\"gelu\""},
    {"scale_embedding", "has_embedding_scale", "false"},
});

constexpr TrtFamily t5(const char* architecture, const char* model_type, bool decoder) {
  return {.architecture = architecture,
          .model_type = model_type,
          .target = decoder ? "DecoderModel" : "EncoderModel",
          .decoder = "t5",
          .variant = R"({"model_type": "t5"})",
          .layers = decoder ? "decoder.block." : "encoder.block.",
          .target_layers = decoder ? "decoder_layers." : "encoder_layers.",
          .modules = decoder ? std::span<const TrtModule>(kT5Decoder) : kT5Encoder,
          .embedding = "shared.weight",
          .target_embedding = "embedding.vocab_embedding.weight",
          .positions = "",
          .target_positions = "",
          .position_offset = 0,
          .embedding_norm = "",
          .target_embedding_norm = "",
          .final_norm = decoder ? "decoder.final_layer_norm" : "encoder.final_layer_norm",
          .target_final_norm = "final_layernorm",
          .head = decoder ? "lm_head.weight" : "",
          .norms = TrtNorms::kRms,
          .tied = true,
          .transposed = false,
          .position_embedding_type = "relative",
          .sizes = decoder ? std::span<const TrtKey>(kT5DecoderSizes) : kT5EncoderSizes,
          .keys = kT5Keys,
          .fixed = "{}",
          .input_norms = 1,
          .fixed_mlp = false,
          .fixed_epsilon = false,
          .fixed_rotary = false,
          .partial_rotary = false,
          .plugin_int8 = false,
          .rowwise_fp8 = false};
}

constexpr TrtFamily bart(bool decoder) {
  TrtFamily family = t5("BartForConditionalGeneration", "bart", decoder);
  family.decoder = "bart";
  family.variant = R"({"model_type": "bart"})";
  family.layers = decoder ? "model.decoder.layers." : "model.encoder.layers.";
  family.modules = decoder ? std::span<const TrtModule>(kBartDecoder) : kBartEncoder;
  family.embedding = "model.shared.weight";
  family.positions =
      decoder ? "model.decoder.embed_positions.weight" : "model.encoder.embed_positions.weight";
  family.target_positions = "embedding.position_embedding.weight";
  family.position_offset = 2;
  family.embedding_norm =
      decoder ? "model.decoder.layernorm_embedding" : "model.encoder.layernorm_embedding";
  family.target_embedding_norm = "embedding.embedding_layernorm";
  family.final_norm = "";
  family.norms = TrtNorms::kLayerNorm;
  family.position_embedding_type = "learned_absolute";
  family.sizes = decoder ? std::span<const TrtKey>(kBartDecoderSizes) : kBartEncoderSizes;
  family.keys = kBartKeys;
  return family;
}

constexpr std::array kEncoderHalves = std::to_array<TrtFamily>({
    t5("T5ForConditionalGeneration", "t5", false),
    t5("MT5ForConditionalGeneration", "mt5", false),
    bart(false),
});

constexpr std::array kDecoderHalves = std::to_array<TrtFamily>({
    t5("T5ForConditionalGeneration", "t5", true),
    t5("MT5ForConditionalGeneration", "mt5", true),
    bart(true),
});

}  // namespace

std::span<const TrtFamily> trt_encoder_halves() { return kEncoderHalves; }

std::span<const TrtFamily> trt_decoder_halves() { return kDecoderHalves; }

}  // namespace pare
