// Checkpoints that are released quantized, as the dense model that they stand for.
//
// "quantization_config" in config.json says how the weights are stored. Read are
//   "fp8"   with "weight_block_size" (DeepSeek-V3 and R1, Qwen3-FP8): formats/fp8_source.h
//   "mxfp4" (gpt-oss):                                                formats/mxfp4_source.h
// and every other kind is refused by its name. The source that comes out shows dense BF16 tensors
// under the names of the model that is not quantized, and a config.json without
// "quantization_config".
//
//   auto source = decode_quantized(std::move(folder));
#pragma once

#include <memory>

#include "formats/weight_source.h"

namespace pare {

/// `source` itself when its config.json names no quantization. Throws Error(kInputMalformed) when
/// the kind is not read or its tensors do not fit together.
std::unique_ptr<WeightSource> decode_quantized(std::unique_ptr<WeightSource> source);

}  // namespace pare
