// Statistics of an input whose channels are put in another order.
#pragma once

#include <cstdint>
#include <span>

#include "calib/statistics.h"

namespace pare {

/// Channel i of the result is channel order[i] of `statistics`. order [in], a permutation.
InputStatistics permute(InputStatistics statistics, std::span<const int32_t> order);

}  // namespace pare
