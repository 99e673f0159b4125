// config.json of a TensorRT-LLM checkpoint, with quant_cfg.json where formats are mixed.
//
//   const TrtConfig config = read_trt_config("engine/config.json");
//   if (config.quantization.algo_of("transformer.layers.0.mlp.fc").algo == TrtAlgo::kFp8) …
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "formats/linear_scheme.h"
#include "formats/tensorrt_llm_layout.h"

namespace pare {

/// "quant_algo", as far as it is known here.
enum class TrtAlgo : uint8_t {
  kNone,
  kFp8,             ///< FP8: one scale a tensor, inputs with a static one.
  kFp8Rowwise,      ///< FP8_PER_CHANNEL_PER_TOKEN
  kInt8Static,      ///< W8A8_SQ_PER_CHANNEL: static inputs.
  kInt8PerToken,    ///< W8A8_SQ_PER_CHANNEL_PER_TOKEN_PLUGIN
  kInt8WeightOnly,  ///< W8A16: the builder quantizes; the files have floating-point weights.
  kInt4,            ///< W4A16_AWQ
  kInt4Fp8,         ///< W4A8_AWQ
};

struct TrtAlgoInfo {
  TrtAlgo algo;
  const char* name;  ///< "quant_algo"; "" for kNone
  WeightFormat weight;
  ActivationFormat activation;
  int64_t group_size;  ///< kPerTensor, kPerChannel; > 0: in groups
  bool mixes;          ///< May stand beside others (MIXED_PRECISION).
};

const TrtAlgoInfo& trt_algo_info(TrtAlgo algo);

/// The algorithm that holds a scheme; none where the form has no place for it.
std::optional<TrtAlgo> find_trt_algo(const LinearScheme& scheme);

/// How one linear is stored.
struct TrtScheme {
  TrtAlgo algo = TrtAlgo::kNone;
  int64_t group_size = 0;

  bool operator==(const TrtScheme&) const = default;
};

struct TrtQuantization {
  TrtScheme scheme;                         ///< Of all linears but those excluded.
  std::string cache;                        ///< "FP8", "INT8" or "".
  std::vector<std::string> exclude;         ///< Modules, with "*" and "?".
  bool mixed = false;                       ///< MIXED_PRECISION: `layers` alone counts.
  std::map<std::string, TrtScheme> layers;  ///< By module, with wildcards.

  /// Of a module of the checkpoint: "transformer.layers.0.mlp.fc".
  TrtScheme algo_of(const std::string& module) const;
};

struct TrtConfig {
  std::string path;
  nlohmann::ordered_json json;
  const TrtFamily* family = nullptr;
  TrtSizes sizes;
  TrtQuantization quantization;
};

/// Whether a folder holds such a checkpoint: its config.json has "architecture" and rank files are
/// there or "mapping"; or it has an encoder/ and a decoder/ that do.
bool is_trt_folder(const std::string& folder);

/// Reads and checks `path` and the quant_cfg.json beside it. KV heads are those of `model_kv_heads`
/// where that is positive: config.json may say more, see TrtSizes. Throws Error(kInputMissing),
/// Error(kInputMalformed) naming the file and the key, for what is damaged, contradicts itself or
/// is of a model that is not known.
TrtConfig read_trt_config(const std::string& path, int64_t model_kv_heads = 0);

/// What the tensors say and config.json does not.
struct TrtFacts {
  bool qkv_bias = false;
  bool mlp_bias = false;
  bool tied = false;
};

/// Hugging Face's config.json for a folder that came without one. `encoder` is null for decoders
/// alone.
nlohmann::ordered_json make_source_config(const TrtConfig& config, const TrtConfig* encoder,
                                          const TrtFacts& facts);

}  // namespace pare
