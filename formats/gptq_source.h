// Folders in the form of GPTQ ("quant_method": "gptq", versions 1 and 2), as compressed weights.
//
// A linear m is made of m.qweight (I32 [in · bits / 32, out]), m.qzeros (I32 [groups, out · bits /
// 32]), m.scales ([groups, out]) and m.g_idx (I32 [in], the group of each input channel), with 2,
// 3, 4 or 8 bits. Version 1 stores zero points less one. Width and groups are taken from the
// tensors, since modules may differ from what the configuration says for most.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>

#include "formats/weight_source.h"

namespace pare {

/// `config` is "quantization_config". Throws Error(kInputMalformed), naming file and key or tensor,
/// for another version, and when linears are not complete or their tensors do not fit; when a
/// linear is read, also for a zero point of version 1 that stands for 0 with some readers and for
/// 2^bits with others.
std::unique_ptr<WeightSource> make_gptq_source(std::shared_ptr<const WeightSource> base,
                                               const nlohmann::ordered_json& config);

}  // namespace pare
