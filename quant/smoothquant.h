// SmoothQuant (Xiao et al., 2022, arXiv:2211.10438) with a searched migration strength.
//
// x / s has fewer outliers, W × s more: s_j = amax(x_j)^α / amax(W_:j)^(1−α). The strength α is
// searched per group of linears that share the input, the identity among the candidates; for steps
// a token also with moments of the activations in place of their ranges. Objective:
// the weight error from the Gram matrix plus the activation error. See smoothquant.cpp.
#pragma once

#include "core/thread_pool.h"
#include "quant/linear_group.h"

namespace pare {

struct SmoothQuantOptions {
  double strength = -1;  ///< 0 … 1 fixes α; negative searches it.
  bool dynamic_activations = false;
};

InputScaling search_smoothquant(const LinearGroup& group, const SmoothQuantOptions& options,
                                ThreadPool& pool);

}  // namespace pare
