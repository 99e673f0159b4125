// A choice for each group of linears as options of one job.
#pragma once

#include <cstddef>
#include <span>

#include "pare/mixed_precision.h"

namespace pare {

/// All layers alike, none of them pruned.
QuantizeOptions without_sparsity(QuantizeOptions options);

/// `base` with the format that most groups chose (`choice`: by group, an index into
/// report.alternatives), overrides for the others, and dense linears among pruned ones named in
/// sparsity_skip. Saved statistics are left out: a plan is calibrated as any job.
QuantizeOptions plan_options(const QuantizeOptions& base, const MixedReport& report,
                             std::span<const size_t> choice);

}  // namespace pare
