// The output error of rounding W · diag(s): the objective that the input-scale searches share.
//
//   d = w − Q(w diag(s)) diag(1/s),   error = Σ d H dᵀ over all rows of all linears of the group,
//
// with the Gram matrix H of the input before scaling.
#pragma once

#include <span>

#include "core/thread_pool.h"
#include "quant/linear_group.h"
#include "quant/weight_grid.h"

namespace pare {

/// Q on the plain absmax grid. `gram` [in, in], or its diagonal [in].
double absmax_scaled_error(const LinearGroup& group, std::span<const float> scale,
                           const GridSpec& spec, std::span<const float> gram, ThreadPool& pool);

/// Q on the grid that search_clip() finds for the scaled weight and input: what will be stored.
double clipped_scaled_error(const LinearGroup& group, std::span<const float> scale,
                            const GridSpec& spec, std::span<const float> gram, ThreadPool& pool);

}  // namespace pare
