// A mean with its standard error, and quantiles.
#pragma once

#include <span>

namespace pare {

/// See eval/clusters.h for how it is made.
struct Estimate {
  double mean = 0;
  double standard_error = 0;
};

/// The p-quantile, 0 ≤ p ≤ 1, of ascending values: linear between the values at ⌊p (n − 1)⌋ and
/// the next (Hyndman & Fan 1996, type 7: what NumPy does by default).
/// REQUIRES: at least one value.
double quantile(std::span<const float> ascending, double p);

}  // namespace pare
