// Folders of compressed-tensors (vLLM, SGLang, llm-compressor), as compressed weights.
#pragma once

#include <memory>

#include "formats/compressed_tensors_config.h"
#include "formats/weight_source.h"

namespace pare {

/// `config` is that of base.config_json(). Throws Error(kInputMalformed), naming file and tensor,
/// when linears that the configuration names are not complete or their tensors do not fit.
std::unique_ptr<WeightSource> make_compressed_tensors_source(
    std::shared_ptr<const WeightSource> base, CompressedTensorsConfig config);

}  // namespace pare
