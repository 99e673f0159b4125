// Rotary position embedding as config.json describes it.
//
// Older files hold `rope_theta` and `rope_scaling` {type | rope_type, factor, …} at the top level,
// newer ones `rope_parameters` {rope_type, rope_theta, …}. Supported types: default, linear, and
// llama3 (Llama 3.1's frequency-dependent interpolation).
#pragma once

#include "model/architectures/config_reader.h"
#include "model/block_graph.h"

namespace pare {

/// `rotated` channels of each head rotate. Throws Error(kInputMalformed) for other types, by name.
RotaryShape read_rotary(const ConfigReader& config, int64_t head_dim, int64_t rotated);

}  // namespace pare
