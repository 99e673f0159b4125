// What vLLM and SGLang refuse in a folder of compressed-tensors 0.18.
#include <algorithm>
#include <array>
#include <span>
#include <string_view>

#include "engines/folder_check.h"
#include "formats/compressed_tensors_config.h"
#include "model/cache_tensors.h"
#include "pare/error.h"

namespace pare {
namespace {

using Json = nlohmann::ordered_json;

// Readers fail on any other key.
constexpr std::array<std::string_view, 12> kArgumentKeys = {
    "actorder",        "block_structure", "dynamic",  "group_size", "num_bits", "observer",
    "observer_kwargs", "scale_dtype",     "strategy", "symmetric",  "type",     "zp_dtype"};
constexpr std::array<std::string_view, 5> kGroupKeys = {"format", "input_activations",
                                                        "output_activations", "targets", "weights"};
constexpr std::array<std::string_view, 3> kGone = {"sparse-bitmask", "sparse-24-bitmask",
                                                   "marlin-24"};

bool is_among(std::span<const std::string_view> known, std::string_view text) {
  return std::find(known.begin(), known.end(), text) != known.end();
}

void check_keys(const Json& object, std::span<const std::string_view> known,
                const std::string& where, EngineFindings& findings) {
  if (!object.is_object()) return;
  for (const auto& [key, value] : object.items()) {
    if (!is_among(known, key)) {
      findings.refuse("config.json", where + " has the unknown key \"" + key + "\"");
    }
  }
}

void check_config(const Json& config, EngineFindings& findings) {
  for (const auto& [name, group] : config.at("config_groups").items()) {
    const std::string where = "config_groups." + name;
    check_keys(group, kGroupKeys, where, findings);
    for (const char* part : {"weights", "input_activations"}) {
      check_keys(group.value(part, Json()), kArgumentKeys, where + "." + part, findings);
    }
  }
  check_keys(config.value("kv_cache_scheme", Json()), kArgumentKeys, "kv_cache_scheme", findings);
  const Json format = config.value("format", Json());
  if (format.is_string() && is_among(kGone, format.get<std::string>())) {
    findings.refuse("config.json", "format " + format.dump() + " is no longer read");
  }
  const Json sparsity = config.value("sparsity_config", Json());
  if (sparsity.is_object() && !sparsity.empty()) {
    findings.refuse("config.json",
                    "sparsity_config is not empty, which vLLM refuses even for dense tensors");
  }
}

}  // namespace

void check_compressed_tensors(const FolderContents& folder, EngineFindings& findings) {
  CompressedTensorsConfig config;
  try {
    config = read_compressed_tensors_config(folder.quantization, folder.path + "/config.json");
  } catch (const Error& error) {
    findings.refuse("config.json", error.what());
    return;
  }
  check_config(folder.quantization, findings);
  const auto is_to_be_quantized = [&](const std::string& module) {
    return config.find(module) != nullptr;
  };
  if (!config.groups.empty()) {
    check_modules(folder, ".weight_scale", is_to_be_quantized, findings);
  }
  if (!config.kv_cache_fp8) return;
  for (const BlockGraph& block : folder.model.graph.blocks) {
    for (const Op& op : block.ops) {
      if (op.kind != OpKind::kAttention) continue;
      for (const char* scale : {".k_scale", ".v_scale"}) {
        const std::string name = attention_name(block, op) + scale;
        if (!folder.stored->contains(name)) {
          findings.refuse(name,
                          "is not there, though kv_cache_scheme says that the cache has scales");
        }
      }
    }
  }
}

}  // namespace pare
