// Checkpoints that are released quantized, as what they stand for.
//
// "quantization_config" in config.json says how the weights are stored; Model Optimizer once wrote
// hf_quant_config.json beside it alone. Read are
//   "compressed-tensors", "modelopt", "awq", "gptq": compressed weights, with codes and scales;
//   "fp8" with "weight_block_size" (DeepSeek-V3 and R1, Qwen3-FP8) and "mxfp4" (gpt-oss): dense
//   tensors in BF16,
// and every other kind is refused by its name. The source that comes out has the names of the model
// that is not quantized, and a config.json without "quantization_config".
//
//   auto source = decode_quantized(std::move(folder));
#pragma once

#include <memory>
#include <nlohmann/json.hpp>

#include "formats/weight_source.h"

namespace pare {

/// What a folder says of how its weights are quantized; null where it says nothing. Throws
/// Error(kInputMalformed) for a damaged hf_quant_config.json.
nlohmann::ordered_json quantization_of(const WeightSource& source);

/// `source` itself when its config.json names no quantization. Throws Error(kInputMalformed) when
/// the kind is not read or its tensors do not fit together.
std::unique_ptr<WeightSource> decode_quantized(std::unique_ptr<WeightSource> source);

}  // namespace pare
