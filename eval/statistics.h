// Means with standard errors for values that are correlated inside clusters, and quantiles.
//
// The tokens of a window share their context, so their losses are correlated; windows of equal
// length are (nearly) independent. The standard error of a mean over all tokens is therefore taken
// from the means of the windows. Sums are in double, in order, so results do not depend on threads.
//
//   Estimate nll = clustered_mean(losses, 511);
//   Estimate difference = paired_difference(losses, base_losses, 511);
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace pare {

struct Estimate {
  double mean = 0;
  double standard_error = 0;
};

/// Mean and s / √n with the sample's standard deviation s (divisor n − 1); error 0 when n < 2.
/// REQUIRES: at least one value.
Estimate mean_of(std::span<const double> values);

/// Mean of each run of `cluster` values. REQUIRES: values.size() is a multiple of `cluster` > 0.
std::vector<double> cluster_means(std::span<const float> values, size_t cluster);

/// Mean of all values with its error from cluster means; with a single cluster, from the values as
/// if they were independent.
Estimate clustered_mean(std::span<const float> values, size_t cluster);

/// Mean of values[i] − base[i] with the error of that mean, clustered as above.
Estimate paired_difference(std::span<const float> values, std::span<const float> base,
                           size_t cluster);

/// The p-quantile, 0 ≤ p ≤ 1, of ascending values: linear between the values at ⌊p (n − 1)⌋ and
/// the next (Hyndman & Fan 1996, type 7: what NumPy does by default).
/// REQUIRES: at least one value.
double quantile(std::span<const float> ascending, double p);

}  // namespace pare
