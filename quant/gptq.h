// GPTQ (Frantar et al., 2022, arXiv:2210.17323) in activation order on scales that are fixed.
//
// Columns are decided by falling activation energy H_jj: those that matter most while all others
// can still make up for them. The scales of groups are chosen before, on the original weights, so a
// column keeps the scale of the group in which it stands, and files need no index of columns.
//
//   const OrderedFactor factor = factorize_by_activation(statistics.gram, in, 0.01, name);
//   const std::vector<int8_t> codes = gptq_codes(weight, keep, grid, factor, pool);
//
// Plain values, no shared state; the result does not depend on the number of threads.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "quant/obs_solver.h"
#include "quant/weight_grid.h"

namespace pare {

/// Made once for all linears that share the input.
struct OrderedFactor {
  std::vector<int32_t> order;  ///< [in] columns, the one that is decided first in front.
  InverseFactor factor;        ///< Of the Gram matrix with rows and columns in that order.
};

/// `noise`, [in] or empty, adds to the energy of the channels: what rounding of the input brings.
/// Ties go to the lower column. Throws as factorize_inverse() does.
OrderedFactor factorize_by_activation(std::span<const double> gram, int64_t in_features,
                                      double damping, const std::string& name,
                                      std::span<const double> noise = {});

/// One-byte codes [out, in] of `weight` [out, in] on `grid`, as encode() gives them for rounding to
/// nearest. `keep` [out, in] or empty: pruned weights get the code of zero.
std::vector<int8_t> gptq_codes(std::span<const float> weight, std::span<const uint8_t> keep,
                               const WeightGrid& grid, const OrderedFactor& factor,
                               ThreadPool& pool);

}  // namespace pare
