// Coordinate descent on codes, after QuantEase (Behdin et al., 2023, arXiv:2309.01885).
//
// GPTQ decides each column once, when it does not know yet how later ones will round. Here every
// code is looked at again with all others as they are. For E = W − Q and the norm H of GPTQ, the
// value that leaves the least error tr(E H Eᵀ) is the one of the grid nearest to
//
//   q_j + (E H)_j / H_jj,
//
// so the error never rises. Scales of groups of INT4 are fitted on the way: for fixed codes u of a
// group g the best scale is s + (u · (E H)_g) / (u H_gg uᵀ).
//
//   const std::vector<float> extra = descent_diagonal(gram, in, noise.variance, 0.01);
//   descend_codes(weight, keep, {gram, extra}, /*fit_scales=*/true, grid, codes, pool);
//
// Plain values, no shared state; the result does not depend on the number of threads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/thread_pool.h"
#include "quant/weight_grid.h"

namespace pare {

/// H = gram + diag(diagonal): the Gram matrix is shared with others and stays as it is.
struct DescentNorm {
  std::span<const float> gram;      ///< [in, in]
  std::span<const float> diagonal;  ///< [in]
};

/// What is added to the diagonal of `gram` [in, in]: `noise` [in] or empty, and `damping` times the
/// mean diagonal. [in]
std::vector<float> descent_diagonal(std::span<const float> gram, int64_t in_features,
                                    std::span<const double> noise, double damping);

/// Improves `codes` [out, in], one byte each as encode() gives them, of `weight` [out, in] on
/// `grid`; with `fit_scales` also the scales of INT4 groups whose size divides 128. `keep` [out,
/// in] or empty: pruned weights stay zero. Columns whose H_jj is 0 stay as they are.
void descend_codes(std::span<const float> weight, std::span<const uint8_t> keep,
                   const DescentNorm& norm, bool fit_scales, WeightGrid& grid,
                   std::span<int8_t> codes, ThreadPool& pool);

}  // namespace pare
