// What of a candidate is the very same as in the baseline, and whether the two can be compared
// linear by linear at all.
//
//   require_same_layers(baseline, candidate);
//   if (!equal_linears(baseline, candidate, 3)[op]) …   // blocks[3].ops[op] differs
#pragma once

#include <cstddef>
#include <vector>

#include "eval/evaluated_model.h"

namespace pare {

/// Throws Error(kInputMalformed), naming both models, unless they have the same linears and their
/// residual streams are rotated alike.
void require_same_layers(const EvaluatedModel& baseline, const EvaluatedModel& candidate);

/// By index into BlockGraph::ops, whether a linear is stored in both models densely, as the same
/// bytes, and no scale can have moved into or out of it. REQUIRES: require_same_layers().
std::vector<bool> equal_linears(const EvaluatedModel& baseline, const EvaluatedModel& candidate,
                                size_t block);

/// Whether the final norms or the output heads differ.
bool heads_differ(const EvaluatedModel& baseline, const EvaluatedModel& candidate);

}  // namespace pare
