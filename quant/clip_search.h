// Clipping range of each weight group by the error at the output of the group alone:
// minimise d H_gg dᵀ over the scale, with H_gg the group's diagonal block of the Gram matrix.
//
// The range is searched on a grid of ratios of the absmax (1 included, so it never does worse than
// absmax by this measure), and the scale is then refitted in closed form for the codes found.
#pragma once

#include <cstdint>
#include <span>

#include "core/thread_pool.h"
#include "quant/weight_grid.h"

namespace pare {

/// weight [out, in]; gram [in, in] float (mean_gram) of the input that this weight sees, or its
/// diagonal [in] (used anyway for scales per tensor and for runs of more than 256 columns); keep
/// [out, in] or empty: pruned weights are zero and stay zero.
WeightGrid search_clip(std::span<const float> weight, int64_t out_features, int64_t in_features,
                       const GridSpec& spec, std::span<const float> gram,
                       std::span<const uint8_t> keep, ThreadPool& pool);

}  // namespace pare
