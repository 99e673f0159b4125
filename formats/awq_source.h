// Folders that AutoAWQ and its successors write ("quant_method": "awq", version "gemm"), as
// compressed weights.
//
// A linear m is made of m.qweight (I32 [in, out / 8]), m.qzeros (I32 [in / group, out / 8]) and
// m.scales ([in / group, out]); kernels/engine_layouts.h has the order of the nibbles.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>

#include "formats/weight_source.h"

namespace pare {

/// `config` is "quantization_config". Throws Error(kInputMalformed), naming file and key or tensor,
/// for another version or width, and when linears are not complete or their tensors do not fit.
std::unique_ptr<WeightSource> make_awq_source(std::shared_ptr<const WeightSource> base,
                                              const nlohmann::ordered_json& config);

}  // namespace pare
