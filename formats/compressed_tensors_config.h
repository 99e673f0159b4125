// "quantization_config" of compressed-tensors, the form of checkpoints that vLLM and SGLang read.
//
// The description is that of compressed-tensors 0.18: config_groups with targets, the weights' and
// the inputs' arguments, and a list of modules that are left alone.
//
//   const CompressedTensorsConfig config = read_compressed_tensors_config(json, "config.json");
//   if (const LinearScheme* scheme = config.find("model.layers.0.mlp.up_proj")) …
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "formats/linear_scheme.h"

namespace pare {

/// One entry of config_groups.
struct CompressedTensorsGroup {
  LinearScheme scheme;
  int bits = 0;                      ///< Of the weights: 8, or 4.
  std::string format;                ///< "float-quantized" and so on.
  std::vector<std::string> targets;  ///< Modules by name, "re:" and a pattern, or "Linear".
};

struct CompressedTensorsConfig {
  std::vector<CompressedTensorsGroup> groups;
  std::vector<std::string> ignore;
  bool kv_cache_fp8 = false;
  bool kv_cache_per_head = false;  ///< Scales of keys and values are one for each head.

  /// The group of a linear: by its name, by a pattern, else as any "Linear"; none where it is
  /// ignored.
  const CompressedTensorsGroup* find(const std::string& module) const;
};

/// Throws Error(kInputMalformed), its message beginning with `subject`, for what pare cannot run as
/// it would be deployed, naming the key, what was found and what is read.
CompressedTensorsConfig read_compressed_tensors_config(const nlohmann::ordered_json& json,
                                                       const std::string& subject);

/// The word for the storage of a scheme: "pack-quantized". Throws Error(kInternal) for one that the
/// format does not have.
std::string compressed_tensors_format(const LinearScheme& scheme);

/// As "quantization_config" of config.json, keys sorted.
nlohmann::json compressed_tensors_json(const CompressedTensorsConfig& config);

}  // namespace pare
