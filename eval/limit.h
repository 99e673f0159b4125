// --limit: how many windows or questions.
#pragma once

#include <cstdint>

namespace pare {

/// `limit` of `count`: a whole number, or a share when below 1 (at least one); 0 takes all. Never
/// more than `count`. Throws Error(kUsage) for anything else.
int64_t limited_count(double limit, int64_t count);

}  // namespace pare
