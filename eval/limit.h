// --limit: how many windows or questions.
#pragma once

#include <cstdint>

namespace pare {

/// Throws Error(kUsage) for a limit of windows that no text could be cut by; before any is read.
void check_limit(double limit);

/// `limit` of `count`: a whole number, or a share when below 1 (at least one); 0 takes all. Never
/// more than `count`. Throws Error(kUsage) for anything else.
int64_t limited_count(double limit, int64_t count);

}  // namespace pare
