// Weights for an input that is rounded: the least squares answer to noise of known size.
//
// When the layer reads x + e instead of x, with e independent of x and of variance n on every
// channel, the weight with the least mean square error of the output is
//
//   W' = W H (H + n I)⁻¹ = W − n W (H + n I)⁻¹,   H = E[x xᵀ],
//
// the linear minimum mean square error estimator (Wiener filter): directions of the input that the
// noise drowns stop carrying it to the output. A static INT8 scale rounds every channel with the
// same step, so n = step² / 12.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/thread_pool.h"

namespace pare {

/// weight [out, in] row-major; gram [in, in] = Σ x xᵀ over `tokens` tokens of the input as the
/// layer sees it; noise_variance of each channel. Throws Error(kNonFinite) naming `name` when the
/// system cannot be solved. The result does not depend on the number of threads.
std::vector<float> compensate_input_noise(std::span<const float> weight, int64_t out_features,
                                          int64_t in_features, std::span<const double> gram,
                                          int64_t tokens, double noise_variance,
                                          const std::string& name, ThreadPool& pool);

}  // namespace pare
