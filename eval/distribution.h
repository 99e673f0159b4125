// The distribution of one figure a token, such as KL divergence: mean, RMS, quantiles, extremes.
//
// Every figure has its standard error between clusters (windows, documents), for tokens that share
// a context are correlated; eval/clusters.h has the formula. How each is made:
//
//   mean       Student's t with clusters − 1 degrees of freedom.
//   RMS        delta method: SE(√m) = SE(m) / (2 √m) for m the mean of squares; ends are √ of m's.
//   quantiles  order statistics: the two values whose ranks bound the binomial number of values
//              below the quantile. For correlated tokens the binomial is that of an effective
//              number of independent ones, from the clustered error of the share of values up to
//              the quantile (Woodruff 1952, JASA 47:635; degrees of freedom as in Korn & Graubard
//              1998, Survey Methodology 24:193). SE = (upper − lower) / 2t. No resampling: nothing
//              depends on a seed. It is absent where data do not reach beyond a quantile: under
//              some 3,700 independent tokens for 99.9 %.
//   extremes   as they are; a maximum grows with n and has no error.
//
// Pure; safe from any thread; takes 12 bytes a value beside the values.
//
//   DistributionSummary kl = summarize(kl_of_token, Clusters::runs(kl_of_token.size(), 511));
//   kl.quantiles[3].measured.value;   // 99 %
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "eval/intervals.h"

namespace pare {

/// The median and the tail: what is published of KL divergences.
inline constexpr std::array<double, 5> kTailQuantiles = {0.5, 0.9, 0.95, 0.99, 0.999};

struct QuantileSummary {
  double p = 0;  ///< 0.99: 99 % of values are at most `measured.value`.
  Measured measured;
};

struct DistributionSummary {
  size_t n = 0;
  size_t clusters = 0;  ///< n where values are independent.
  double confidence = kConfidence;
  Measured mean;
  Measured rms;
  double minimum = 0;
  double maximum = 0;
  std::vector<QuantileSummary> quantiles;  ///< In the order asked for.
};

/// Summarizes `values`; all figures are 0 without values, and no interval is given for one value.
/// REQUIRES: clusters.size() == values.size(), 0 ≤ p ≤ 1. Throws kNonFinite, naming the first
/// value that is not finite, and kUsage for a confidence outside (0, 1).
DistributionSummary summarize(std::span<const float> values, const Clusters& clusters,
                              std::span<const double> probabilities = kTailQuantiles,
                              double confidence = kConfidence);

}  // namespace pare
