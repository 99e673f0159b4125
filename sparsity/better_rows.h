// Two prunings of one weight, row by row the one that loses less.
//
//   take_better_rows(target, out, in, gram, other, best, pool);
//
// No state; the result does not depend on the number of threads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/thread_pool.h"

namespace pare {

struct PrunedWeight {
  std::vector<float> weight;  ///< [out, in], zero where pruned.
  std::vector<uint8_t> keep;  ///< [out, in]
};

/// Rows of `best` for which Σ (w − ŵ) H (w − ŵ)ᵀ is smaller with `other` become those of `other`.
/// target [out, in] is w; gram [in, in] mean_gram() of the input.
void take_better_rows(std::span<const float> target, int64_t out_features, int64_t in_features,
                      std::span<const float> gram, const PrunedWeight& other, PrunedWeight& best,
                      ThreadPool& pool);

}  // namespace pare
