// What a quantized linear reads instead of its input.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/compressed_weight.h"

namespace pare {

/// x [tokens, in] as a linear with this activation format reads it: rounded to bfloat16, to the
/// codes, and back to values; kBf16: x itself. `input_scale` where has_input_scale(). Throws
/// Error(kNonFinite) where NaN or infinity would be quantized.
std::vector<float> rounded_input(std::span<const float> x, int64_t in_features,
                                 ActivationFormat activation, float input_scale);

}  // namespace pare
