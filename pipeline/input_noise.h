// What rounding of a shared input adds to it.
#pragma once

#include <vector>

#include "core/compressed_weight.h"
#include "pipeline/input_sharing.h"

namespace pare {

/// Mean square [in] of what rounding as deployed changes, over the set's sampled tokens, after the
/// set's scales. `input_scale` where has_input_scale(activation).
std::vector<double> input_noise(const SharingSet& set, ActivationFormat activation,
                                float input_scale);

}  // namespace pare
