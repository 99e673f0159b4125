// NVIDIA Model Optimizer's unified Hugging Face checkpoints, as compressed weights.
//
// A linear m is m.weight with m.weight_scale, and where its algorithm has them m.weight_scale_2,
// m.input_scale and m.pre_quant_scale; INT4 is two output channels a byte. Scales of the cache are
// self_attn.k_proj.k_scale and self_attn.v_proj.v_scale.
#pragma once

#include <memory>

#include "formats/modelopt_config.h"
#include "formats/weight_source.h"

namespace pare {

/// Throws Error(kInputMalformed), naming file and key or tensor, for algorithms that pare cannot
/// run and for linears that are not complete or do not fit.
std::unique_ptr<WeightSource> make_modelopt_source(std::shared_ptr<const WeightSource> base,
                                                   ModeloptConfig config);

}  // namespace pare
