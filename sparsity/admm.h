// 2:4 pruning of a whole layer at once by the alternating direction method of multipliers, after
// ALPS (Meng et al., 2024, arXiv:2406.07831).
//
//   minimise over X and D, D with two of each four zero, X = D:  Σ_rows (w − x) H (w − x)ᵀ
//
// SparseGPT decides from left to right and never takes a decision back. Here X, which fits the
// layer's output, and D, which fits the mask, are pulled towards each other with a penalty ρ that
// grows, so the mask goes on changing while the other weights already make up for it. Channels are
// rescaled to a unit diagonal of H first, so that ρ means the same for all.
//
//   PrunedWeight pruned = admm_prune(weight, out, in, gram, {}, pool);
//   weight = solve_kept_weights(weight, pruned.weight, pruned.keep, out, in, gram, {}, pool);
//
// No state; the result does not depend on the number of threads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/thread_pool.h"
#include "sparsity/better_rows.h"

namespace pare {

struct AdmmOptions {
  int stages = 10;           ///< Of one penalty each.
  int iterations = 3;        ///< In a stage: one product with a matrix [in, in] each.
  double penalty = 0.02;     ///< The first one, of a unit diagonal.
  double growth = 1.953125;  ///< From stage to stage.
  double damping = 0.01;     ///< Share of the mean diagonal, as in factorize_inverse().
};

/// weight [out, in]; gram [in, in] mean_gram() of the input. The result is near the best for its
/// mask. Throws Error(kUsage) when in_features is not divisible by 4, Error(kNonFinite) when
/// weights or Gram matrix are not finite.
PrunedWeight admm_prune(std::span<const float> weight, int64_t out_features, int64_t in_features,
                        std::span<const float> gram, const AdmmOptions& options, ThreadPool& pool);

}  // namespace pare
