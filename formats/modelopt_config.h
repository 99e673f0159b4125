// The configuration of NVIDIA Model Optimizer's unified Hugging Face checkpoints: "quantization" of
// hf_quant_config.json, and the same as "quantization_config" of config.json.
//
//   const ModeloptConfig config = read_modelopt_config(json, "config.json: quantization_config");
//   const LinearScheme scheme = config.scheme("model.layers.0.mlp.up_proj");
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "formats/linear_scheme.h"

namespace pare {

/// A name of "quant_algo" and what it means for a linear; groups are those of the module, where the
/// name leaves them open.
struct ModeloptAlgo {
  std::string quant_algo;
  int64_t group_size = 0;  ///< INT4: of the module.
};

struct ModeloptConfig {
  ModeloptAlgo algo;                           ///< Of all linears, or "MIXED_PRECISION" …
  std::map<std::string, ModeloptAlgo> layers;  ///< … and then of each module by name.
  std::string kv_cache_algo;                   ///< "FP8", "INT8" or none.
  std::vector<std::string> exclude_modules;

  /// How a linear that has scales is stored. Throws Error(kInputMalformed), its message beginning
  /// with `subject`, when there is nothing about it or pare cannot run it.
  LinearScheme scheme(const std::string& module, const std::string& subject) const;
};

/// What a name means, or none where pare cannot run it.
std::optional<LinearScheme> modelopt_scheme(const ModeloptAlgo& algo);

/// The name for a scheme; none where Model Optimizer has none.
std::optional<ModeloptAlgo> modelopt_algo(const LinearScheme& scheme);

/// Both forms are read: keys at the top, or inside "quantization".
ModeloptConfig read_modelopt_config(const nlohmann::ordered_json& json, const std::string& subject);

/// hf_quant_config.json.
nlohmann::ordered_json modelopt_json(const ModeloptConfig& config);

/// "quantization_config" of config.json.
nlohmann::ordered_json modelopt_config_json(const ModeloptConfig& config);

/// The shortest prefixes at a dot, each with "*", that cover these modules and match none of the
/// quantized ones; a full name where there is no such prefix. Sorted.
std::vector<std::string> exclude_patterns(const std::vector<std::string>& modules,
                                          const std::set<std::string>& quantized);

}  // namespace pare
