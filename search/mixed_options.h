// What is asked of a mixed plan, before any work.
#pragma once

#include <string>

#include "pare/mixed_precision.h"

namespace pare {

/// With the recipe applied, which would otherwise win against the formats of each job.
MixedOptions resolve_options(const MixedOptions& given);

/// Throws Error(kUsage) for what cannot be, Error(kWriteFailed) for places that cannot be written.
void check_options(const MixedOptions& options);

/// Where the plan goes.
std::string recipe_path(const MixedOptions& options);

}  // namespace pare
