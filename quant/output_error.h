// The error that a change of weights makes at the layer's own output, from the Gram matrix alone:
//
//   ‖X Wᵀ − X Ŵᵀ‖²_F = Σ_rows (w − ŵ) H (w − ŵ)ᵀ,   H = Σ_tokens x xᵀ
//
// so a search costs out × in² operations a candidate, whatever the number of tokens.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/thread_pool.h"

namespace pare {

/// Σ_rows d H dᵀ for d = delta[row], delta [rows, in], gram [in, in] float, or its diagonal [in].
/// Deterministic for any number of threads.
double output_error(std::span<const float> delta, int64_t rows, int64_t in_features,
                    std::span<const float> gram, ThreadPool& pool);

/// gram in float, divided by the number of tokens.
std::vector<float> mean_gram(std::span<const double> gram, int64_t tokens);

}  // namespace pare
