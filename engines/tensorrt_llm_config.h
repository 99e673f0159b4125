// config.json and quant_cfg.json of a TensorRT-LLM checkpoint.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engines/tensorrt_llm_pieces.h"

namespace pare {

/// What is quantized how, in TensorRT-LLM's words.
struct TrtQuantizationText {
  nlohmann::ordered_json quantization;  ///< "quantization" of config.json
  nlohmann::ordered_json layers;        ///< quant_cfg.json; null: there is none
  std::vector<std::string> warnings;
};

/// `cache`: "FP8", "INT8" or "". Throws Error(kInputMalformed) for formats that cannot stand beside
/// each other.
TrtQuantizationText trt_quantization(const std::vector<TrtLinearPlan>& plans,
                                     const TrtLayout& layout, const std::string& cache);

/// config.json of a half; keys in the order of the form's definition. `encoder`: sizes of the half
/// that a decoder looks at; of a decoder alone, its own.
nlohmann::ordered_json trt_config_json(const TrtLayout& layout, const TrtSizes& encoder,
                                       const nlohmann::ordered_json& source_config,
                                       const nlohmann::ordered_json& quantization,
                                       const std::vector<TrtLinearPlan>& plans, bool has_head);

}  // namespace pare
