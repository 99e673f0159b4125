// In what scale a compressed model holds the values of a block, against the model it came from.
//
// SmoothQuant and AWQ move scales between tensors: a norm's weight, or the rows of a linear, are
// divided by them and the columns of the linears that read the value are multiplied. The model as a
// whole stays the same, but one of these linears alone means nothing in the original model: its
// input has to be multiplied, and its output divided, by the scales of those values.
//
//   value       scale of channel j = candidate's value / baseline's value
//   of a norm   ratio of the two norm weights, exact. (A norm that was changed for another reason
//               is seen as part of the linears that read it.)
//   of a linear that another one reads through attention or a gate: the checkpoint does not store
//               it, and only the product of both weights matters to the model. It is estimated from
//               the least-squares slopes over the baseline's weights, of the producer's row and of
//               the reader's columns (inverted), each weighed by its precision; what shrank both
//               weights alike, as pruning does, is taken out first. It is 1 where what is found is
//               within the noise of rounding, and in a checkpoint whose recipe says that pare wrote
//               it where the formats cannot hold one. Good to half a percent behind INT4 groups;
//               where weights are pruned too, to some percent, which is little beside their error.
//
// A scale of the input that is stored with a linear (pre_quant_scale) is the linear's own affair.
// Pure functions; `pool` must not be in use. Results do not depend on its size.
//
//   BlockScales scales = block_scales(block, *baseline.source, *candidate.source, pool);
//   scales.input[i];    // of ops[i], a linear: multiply its input by it
#pragma once

#include <vector>

#include "core/thread_pool.h"
#include "formats/weight_source.h"
#include "model/block_graph.h"

namespace pare {

/// By index into BlockGraph::ops; empty: all ones. Finite; those of outputs are positive.
struct BlockScales {
  std::vector<std::vector<float>> input;   ///< [in] of a linear
  std::vector<std::vector<float>> output;  ///< [out] of a linear
};

/// Both sources must hold the block's tensors. Throws Error(kInputMalformed), naming file and
/// tensor, where the weights of a norm have no ratio, and Error(kNonFinite).
BlockScales block_scales(const BlockGraph& block, const WeightSource& baseline,
                         const WeightSource& candidate, ThreadPool& pool);

}  // namespace pare
