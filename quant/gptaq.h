// The weight that gives the uncompressed model's output from the compressed model's input, after
// GPTAQ (Li et al., 2025, arXiv:2504.02692).
//
// Earlier layers are compressed already, so a layer sees x where the original sees x̃. The Ŵ that
// minimises Σ ‖Ŵ x − W x̃‖² is the one nearest, in the norm of H = Σ x xᵀ, to
//
//   W* = W + W C H⁻¹,   C = Σ (x̃ − x) xᵀ,
//
// so every algorithm that rounds or prunes on H does the same with W* in place of W. C is noisy:
// only a share of the correction is applied.
//
//   const std::vector<float> correction = mismatch_correction(statistics, 0.5, 0.01, name, pool);
//   weight = match_original(weight, out, in, correction, pool);
//
// No state; the result does not depend on the number of threads.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "calib/statistics.h"
#include "core/thread_pool.h"

namespace pare {

/// share × C (H + damping × mean diag H × I)⁻¹, [in, in]. Throws Error(kNonFinite), naming `name`,
/// where the statistics are not finite. REQUIRES: statistics.gram and .mismatch.
std::vector<float> mismatch_correction(const InputStatistics& statistics, double share,
                                       double damping, const std::string& name, ThreadPool& pool);

/// W + W correction, for weight [out, in].
std::vector<float> match_original(std::span<const float> weight, int64_t out_features,
                                  int64_t in_features, std::span<const float> correction,
                                  ThreadPool& pool);

}  // namespace pare
