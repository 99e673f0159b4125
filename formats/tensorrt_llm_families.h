// The model families of TensorRT-LLM's checkpoints: whose names stand for which of Hugging Face's.
//
// Tables alone. Names are those of TensorRT-LLM 0.9 to 1.2 (tensorrt_llm/models); which rows of
// which tensor a rank has, formats/tensorrt_llm_layout.h derives from them.
//
//   const TrtFamily* family = find_trt_family("MistralForCausalLM");
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pare {

/// What a module of a layer is, and with that how it is split between ranks.
enum class TrtKind : uint8_t {
  kNorm,      ///< Whole on every rank.
  kHeadNorm,  ///< Of each head: whole on every rank.
  kQuery,     ///< [heads × head_dim, hidden], by head; with kKey and kValue in one tensor.
  kKey,       ///< [KV heads × head_dim, hidden], by head, repeated where there are too few.
  kValue,
  kQkv,           ///< All three in one tensor already: queries, keys, values.
  kQkvGroups,     ///< The same, for each KV head its queries, its key and its value.
  kAttentionOut,  ///< [hidden, heads × head_dim], by column.
  kUp,            ///< [intermediate, hidden], by row.
  kGateUp,        ///< [2 × intermediate, hidden]: gate, then up; up comes first in the checkpoint.
  kDown,          ///< [hidden, intermediate], by column.
  kRouter,        ///< [experts, hidden], whole, F32.
  kExpertUp,      ///< As kUp, one an expert, all in one tensor; several follow each other.
  kExpertDown,    ///< As kDown, one an expert, all in one tensor.
  kRelativeBias,  ///< [buckets, heads]; by head, turned round.
};

/// Whether a layer has the module.
enum class TrtWhen : uint8_t { kAlways, kGated, kPlain };

/// One module of a layer, under both names without the layer's prefix. Experts have {} where their
/// number goes.
struct TrtModule {
  const char* source;
  const char* target;
  TrtKind kind;
  TrtWhen when = TrtWhen::kAlways;
};

/// A key of config.json under both names.
struct TrtKey {
  const char* source;     ///< Hugging Face's; "a.b" is b in the object a.
  const char* target;     ///< TensorRT-LLM's.
  const char* otherwise;  ///< JSON: what stands for an absent key, either way.
};

enum class TrtNorms : uint8_t {
  kRms,
  kLayerNorm,
  kLayerNormPlain,  ///< Without a bias.
};

struct TrtFamily {
  const char* architecture;   ///< Hugging Face's.
  const char* model_type;     ///< Hugging Face's.
  const char* target;         ///< TensorRT-LLM's "architecture".
  const char* decoder;        ///< "decoder", or the model_type of an encoder or decoder
  const char* variant;        ///< JSON: keys that tell families of one architecture apart.
  const char* layers;         ///< Prefix of the source's layers.
  const char* target_layers;  ///< Prefix of the target's layers.
  std::span<const TrtModule> modules;
  const char* embedding;  ///< Full names of tensors.
  const char* target_embedding;
  const char* positions;  ///< "": none
  const char* target_positions;
  int64_t position_offset;     ///< Rows of the source's table before position 0.
  const char* embedding_norm;  ///< Module; "": none
  const char* target_embedding_norm;
  const char* final_norm;  ///< Module; "": none
  const char* target_final_norm;
  const char* head;  ///< Full name of the matrix that an untied model has; "": no head
  TrtNorms norms;
  bool tied;        ///< What stands for an absent "tie_word_embeddings".
  bool transposed;  ///< Linears are stored densely as [in, out].
  const char* position_embedding_type;
  std::span<const TrtKey> sizes;  ///< "otherwise" is "" where the key has to be there.
  std::span<const TrtKey> keys;
  const char* fixed;    ///< JSON: further keys of the source's config.json.
  int64_t input_norms;  ///< Of a layer, that read its input: two where its halves are parallel.
  // What the engine has whatever config.json says.
  bool fixed_mlp;       ///< An MLP four times as wide as the model.
  bool fixed_epsilon;   ///< Norms with 1e-5.
  bool fixed_rotary;    ///< Rotary embedding with base 10,000.
  bool partial_rotary;  ///< May rotate a part of each head.
  bool plugin_int8;     ///< Has W8A8_SQ_PER_CHANNEL_PER_TOKEN_PLUGIN.
  bool rowwise_fp8;     ///< Has FP8_PER_CHANNEL_PER_TOKEN.
};

/// Decoders with layer norms.
std::span<const TrtFamily> trt_layer_norm_families();

/// Halves of encoder-decoder models, in the same order.
std::span<const TrtFamily> trt_encoder_halves();
std::span<const TrtFamily> trt_decoder_halves();

/// Decoders by Hugging Face's name of the architecture, of which some have several.
std::vector<const TrtFamily*> find_trt_families(std::string_view architecture);

/// Whether it is a decoder, and no half of a model.
bool is_trt_decoder(const TrtFamily& family);

/// By TensorRT-LLM's config.json.
const TrtFamily* find_trt_target(const nlohmann::ordered_json& config);

/// The two halves of an encoder-decoder model, by Hugging Face's name; null for other models.
const TrtFamily* find_trt_encoder(std::string_view architecture);
const TrtFamily* find_trt_decoder(std::string_view architecture);

/// "LlamaForCausalLM, …", for messages.
std::string known_trt_families();

/// Whether a layer of `family` has the module.
inline bool has_module(const TrtModule& module, bool gated) noexcept {
  return module.when == TrtWhen::kAlways || (module.when == TrtWhen::kGated) == gated;
}

}  // namespace pare
