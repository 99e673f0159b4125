// SparseGPT (Frantar & Alistarh, 2023, arXiv:2301.00774): 2:4 pruning with the weight update kept.
//
// Column by column, of each four weights the two whose removal costs least, w² / [H⁻¹]_jj with H
// restricted to the columns not yet decided, are removed, and the others to the right move so that
// the layer's output changes least. The loop itself is solve_obs(), shared with GPTQ.
//
//   const InverseFactor factor = factorize_inverse(statistics.gram, in, 0.01, name);
//   const SparseGptResult pruned = sparsegpt(weight, out, in, factor, pool);
//
// Plain values, no shared state; the result does not depend on the number of threads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/thread_pool.h"
#include "quant/obs_solver.h"

namespace pare {

struct SparseGptResult {
  std::vector<float> weight;  ///< [out, in] updated, zero where pruned.
  std::vector<uint8_t> keep;  ///< [out, in] exactly two of each four 1.
};

/// weight [out, in] row-major. Throws Error(kUsage) when in_features is not divisible by 4.
SparseGptResult sparsegpt(std::span<const float> weight, int64_t out_features, int64_t in_features,
                          const InverseFactor& factor, ThreadPool& pool);

/// The same pass rounds each kept weight to `grid`: prunes and quantizes together. See
/// ObsProblem::grid for which scales are taken and which are fitted on the way.
ObsSolution sparsegpt_quantized(std::span<const float> weight, int64_t out_features,
                                int64_t in_features, const InverseFactor& factor, WeightGrid grid,
                                ThreadPool& pool);

/// Moves the kept weights of a mask chosen elsewhere (magnitude, Wanda) the same way.
std::vector<float> update_kept_weights(std::span<const float> weight, int64_t out_features,
                                       int64_t in_features, std::span<const uint8_t> keep,
                                       const InverseFactor& factor, ThreadPool& pool);

}  // namespace pare
