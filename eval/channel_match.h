// The baseline with its channels in the order of a candidate's.
//
// Pruning may have put channels of a candidate in another order (docs/algorithms/ria.md): rows of
// some linears, and columns of those that read them. As a whole it computes the same, but one of
// these linears alone means nothing in the original model. The checkpoint does not store the order;
// it is found by looking, for each row of the candidate, for the baseline's row that is most like
// it. What pruning and rounding leave of a row is far more like the row it was than like any other.
//
//   EvaluatedModel same_order = in_order_of(candidate, baseline, pool);
//
// `pool` must not be in use; the result does not depend on its size.
#pragma once

#include "core/thread_pool.h"
#include "eval/evaluated_model.h"

namespace pare {

/// `baseline` itself where the candidate's recipe does not say that channels may have been
/// permuted. Linears that the baseline holds compressed keep their order. The models must have the
/// same layers (require_same_layers()). Throws Error(kNonFinite) for decoded tensors that are not
/// finite.
EvaluatedModel in_order_of(const EvaluatedModel& candidate, const EvaluatedModel& baseline,
                           ThreadPool& pool);

}  // namespace pare
