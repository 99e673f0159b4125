// Weights for an input that is rounded: the least squares answer to noise of known size.
//
// When the layer reads x + e instead of x, with e independent of x and between channels and of
// variance N = diag(n), the weight with the least mean square error of the output is
//
//   W' = W H (H + N)⁻¹ = W − W N (H + N)⁻¹,   H = E[x xᵀ],
//
// the linear minimum mean square error estimator (Wiener filter): directions of the input that the
// noise drowns stop carrying it to the output.
//
//   const NoiseFilter filter = make_noise_filter(gram, tokens, variance, name);
//   weight = compensate_input_noise(weight, out_features, filter, pool);
//
// Plain values, no shared state.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/thread_pool.h"

namespace pare {

/// Made once for all linears that share the input.
struct NoiseFilter {
  std::vector<double> variance;  ///< [in], of the noise; empty: no filter.
  std::vector<double> factor;    ///< [in, in], Cholesky factor of H + N.

  bool empty() const noexcept { return variance.empty(); }
};

/// gram [in, in] = Σ x xᵀ over `tokens` tokens of the input as the layer sees it. Channels that are
/// always zero are left alone; where channels without noise depend on each other, so that H + N is
/// singular, a share of its mean diagonal is added, from 1e-6 on and raised tenfold. Throws
/// Error(kNonFinite) naming `name` when that does not help.
NoiseFilter make_noise_filter(std::span<const double> gram, int64_t tokens,
                              std::vector<double> variance, const std::string& name);

/// weight [out, in] row-major. The result does not depend on the number of threads.
std::vector<float> compensate_input_noise(std::span<const float> weight, int64_t out_features,
                                          const NoiseFilter& filter, ThreadPool& pool);

}  // namespace pare
