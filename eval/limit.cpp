#include "eval/limit.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "pare/error.h"

namespace pare {

void check_limit(double limit) {
  if (limit >= 0 && (limit < 1 || limit == std::floor(limit)) && limit <= 1e15) return;
  throw Error(ErrorCode::kUsage,
              "limit must be a number of windows, or a share of them between 0 and 1");
}

int64_t limited_count(double limit, int64_t count) {
  const bool is_share = limit < 1;
  if (!(limit >= 0) || (!is_share && limit != std::floor(limit))) {
    throw Error(ErrorCode::kUsage, "limit " + std::to_string(limit) +
                                       ": expected a whole number of questions, a share between 0 "
                                       "and 1, or 0 for all");
  }
  if (limit == 0 || limit >= static_cast<double>(count)) return count;
  if (!is_share) return static_cast<int64_t>(limit);
  return std::max<int64_t>(1, std::llround(limit * static_cast<double>(count)));
}

}  // namespace pare
