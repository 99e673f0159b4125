// 2:4 masks without a weight update: of each four consecutive input channels the two weights with
// the largest score stay.
//
// Ties: of equal scores the lower index is kept.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/thread_pool.h"

namespace pare {

/// Score |w|. Returns keep [out, in], exactly two of each four 1. REQUIRES: in_features % 4 == 0.
std::vector<uint8_t> magnitude_mask(std::span<const float> weight, int64_t out_features,
                                    int64_t in_features, ThreadPool& pool);

/// Wanda (Sun et al., 2023, arXiv:2306.11695): score |w| × sqrt(Σ x²). square_sum [in].
std::vector<uint8_t> wanda_mask(std::span<const float> weight, int64_t out_features,
                                int64_t in_features, std::span<const double> square_sum,
                                ThreadPool& pool);

/// ‖x‖₂ of each channel, the largest of them 1. square_sum [in] Σ x² over tokens.
std::vector<float> relative_norms(std::span<const double> square_sum);

}  // namespace pare
