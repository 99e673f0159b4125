// RIA, the relative importance and activations of weights (Zhang et al., "Plug-and-Play: An
// Efficient Post-training Pruning Method for Large Language Models", ICLR 2024):
//
//   score_ij = (|W_ij| / Σ_j |W_ij| + |W_ij| / Σ_i |W_ij|) · (‖x_j‖₂)^a,   a = 1/2
//
// Taken relative to its row and its column, no channel is lost whole, which magnitude and Wanda do
// to channels of small weights.
//
//   std::vector<float> score = ria_score(weight, out, in, statistics.square_sum, pool);
//   std::vector<uint8_t> keep = two_of_four_mask(score, out, in, pool);
//
// No state; the result does not depend on the number of threads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/thread_pool.h"

namespace pare {

/// weight [out, in]; square_sum [in] Σ x² over tokens. Returns the scores [out, in]; rows, columns
/// and channels of nothing but zeros have the score 0. A factor common to all of square_sum changes
/// nothing.
std::vector<float> ria_score(std::span<const float> weight, int64_t out_features,
                             int64_t in_features, std::span<const double> square_sum,
                             ThreadPool& pool);

/// score [out, in], not negative. Returns keep [out, in], of each four consecutive channels the two
/// with the largest score; of equal scores the lower index. Throws Error(kUsage) when in_features
/// is not divisible by 4.
std::vector<uint8_t> two_of_four_mask(std::span<const float> score, int64_t out_features,
                                      int64_t in_features, ThreadPool& pool);

/// The mask of a weight whose input is divided by `scale` [in], so that `weight` and `square_sum`
/// are those of the scaled input; empty: ones. The scale is undone for the score: it would weigh
/// the rows anew.
std::vector<uint8_t> ria_mask(std::span<const float> weight, int64_t out_features,
                              int64_t in_features, std::span<const double> square_sum,
                              std::span<const float> scale, ThreadPool& pool);

}  // namespace pare
