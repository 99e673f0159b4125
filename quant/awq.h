// AWQ (Lin et al., 2023, arXiv:2306.00978): scale up the input channels that matter before
// rounding, one joint search for all linears that share the input.
//
//   s = mean|x|^r / mean|w|^(1−r) over a grid of r (and s = mean|x|^r), identity included;
//   loss(s) = Σ (W − Q(W diag(s)) diag(1/s)) H (…)ᵀ   on the Gram matrix H of the original input.
#pragma once

#include "core/thread_pool.h"
#include "quant/linear_group.h"
#include "quant/weight_grid.h"

namespace pare {

/// `clip` says whether the weights will be stored on clipped grids: the choice is made on what will
/// be stored.
InputScaling search_awq(const LinearGroup& group, const GridSpec& spec, bool clip,
                        ThreadPool& pool);

}  // namespace pare
