// The best values of the weights that a mask keeps: least squares on the support of each row.
//
//   minimise over Ŵ, zero where pruned:  Σ_rows (w − ŵ) (H + damping × mean diag H × I) (w − ŵ)ᵀ
//
// SparseGPT's single pass leaves the columns it has passed as they are; here all kept weights of a
// row move together, by conjugate gradients with the diagonal as preconditioner, so each iteration
// costs one product with the Gram matrix for all rows. Each iteration lowers the objective, so the
// result is never worse than the start, whatever the number of iterations.
//
//   SparseGptResult pruned = sparsegpt(weight, out, in, factor, pool);
//   pruned.weight = solve_kept_weights(weight, pruned.weight, pruned.keep, out, in, gram, {},
//   pool);
//
// No state; the result does not depend on the number of threads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/thread_pool.h"

namespace pare {

struct KeptWeightsOptions {
  int iterations = 8;
  double damping = 0.01;  ///< Share of the mean diagonal, as in factorize_inverse().
};

/// `target` [out, in] the original weight w; `start` [out, in] where to begin (pruned entries are
/// ignored); `keep` [out, in]; `gram` [in, in] mean_gram() of the input. Throws Error(kNonFinite)
/// when the weights or the Gram matrix are not finite.
std::vector<float> solve_kept_weights(std::span<const float> target, std::span<const float> start,
                                      std::span<const uint8_t> keep, int64_t out_features,
                                      int64_t in_features, std::span<const float> gram,
                                      const KeptWeightsOptions& options, ThreadPool& pool);

}  // namespace pare
