#include "eval/statistics.h"

#include <cstddef>

namespace pare {

double quantile(std::span<const float> ascending, double p) {
  const double position = p * static_cast<double>(ascending.size() - 1);
  const auto below = static_cast<size_t>(position);
  const auto low = static_cast<double>(ascending[below]);
  if (below + 1 >= ascending.size()) return low;
  const auto high = static_cast<double>(ascending[below + 1]);
  return low + (high - low) * (position - static_cast<double>(below));
}

}  // namespace pare
