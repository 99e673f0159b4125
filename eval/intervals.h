// What a compressed model lost on the same items, with intervals: accuracies and perplexities.
//
// The two models are compared item by item (Miller 2024, arXiv 2411.00640): what the items share
// cancels, which resolves differences several times smaller than two separate intervals would.
// Signs: `difference` and `relative` are candidate minus baseline, so a loss of accuracy is
// negative. Shares are fractions, not percent. Pure functions on spans; results are values; safe
// from any thread. An interval that the data cannot give is absent, and nothing is NaN. Values that
// are not finite, spans of unequal length, and a confidence outside (0, 1) throw pare::Error.
//
//   AccuracyComparison mmlu = compare_accuracy(candidate, base, Clusters::by_group(subjects));
//   mmlu.difference.interval->lower;   // −0.0062: a loss of at most 0.62 points
//   PerplexityComparison wiki = compare_perplexity(window_nll, base_window_nll);
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "eval/clusters.h"
#include "eval/probability.h"
#include "pare/measured.h"

namespace pare {

/// Wilson's score interval (1927) of a proportion, for `right` of `n` items; [0, 1] at n = 0.
/// REQUIRES: right ≤ n.
Interval wilson_interval(size_t right, size_t n, double confidence = kConfidence);

/// Tango's score interval (1998, Statistics in Medicine 17:891) of (gained − lost) / n for n
/// independent pairs. It is right also where few or no pairs differ: without discordant pairs it
/// is ± z² / (n + z²). REQUIRES: lost + gained ≤ n; [−1, 1] at n = 0.
Interval paired_score_interval(size_t lost, size_t gained, size_t n,
                               double confidence = kConfidence);

/// value ± t · error with `units` − 1 degrees of freedom; absent where that is nothing. See
/// effective_number() for units that are not equal.
std::optional<Interval> t_interval(const Estimate& estimate, double units,
                                   double confidence = kConfidence);

/// Two models' answers to the same n questions.
struct AccuracyComparison {
  size_t n = 0;
  size_t clusters = 0;     ///< What the interval rests on; n where questions are independent.
  bool clustered = false;  ///< False also where all questions are of one cluster.
  double confidence = kConfidence;
  size_t base_right = 0;
  size_t right = 0;
  size_t lost = 0;         ///< Base right, candidate wrong.
  size_t gained = 0;       ///< Base wrong, candidate right.
  double flips = 0;        ///< (lost + gained) / n
  double mcnemar_p = 1;    ///< Exact, two-sided; takes questions as independent.
  Measured base_accuracy;  ///< With Wilson's interval, questions taken as independent.
  Measured accuracy;
  Measured difference;  ///< accuracy − base_accuracy, as a fraction.
  Measured relative;    ///< accuracy / base_accuracy − 1; without interval where the base is 0.
};

/// Compares answers, nonzero = right. The interval of the difference is Tango's where questions are
/// independent, and Student's t between clusters (with the degrees of
/// freedom of effective_number()) otherwise; that of the relative change is
/// Student's t by the delta method. As spread cannot be estimated from a handful of flips, these
/// two t intervals are widened to include Tango's where fewer than ten questions flip.
/// REQUIRES: both spans and the clusters are of equal size.
AccuracyComparison compare_accuracy(std::span<const uint8_t> right,
                                    std::span<const uint8_t> base_right, const Clusters& clusters,
                                    double confidence = kConfidence);

/// Two means over the same n items of any real quantity.
struct MeanComparison {
  size_t n = 0;
  size_t clusters = 0;
  double confidence = kConfidence;
  Measured base_mean;
  Measured mean;
  Measured difference;  ///< mean − base_mean, with the error of the item-by-item differences.
};

MeanComparison compare_means(std::span<const double> values, std::span<const double> base_values,
                             const Clusters& clusters, double confidence = kConfidence);

/// Two perplexities over exactly the same tokens.
struct PerplexityComparison {
  size_t windows = 0;
  double confidence = kConfidence;
  Measured base_perplexity;  ///< exp(mean loss); interval on the log scale.
  Measured perplexity;
  Measured log_ratio;      ///< ln(perplexity / base_perplexity)
  Measured ratio;          ///< perplexity / base_perplexity; interval = exp of log_ratio's.
  Measured difference;     ///< perplexity − base_perplexity, by the delta method.
  double covariance = 0;   ///< Of the two mean losses: var(log_ratio) = var + var − 2 covariance.
  double correlation = 0;  ///< Of the two mean losses; 0 where either does not vary.
};

/// Compares the mean losses (nats a token) of windows or documents. `tokens` weighs windows by
/// their number of scored tokens; empty: all alike. Windows without tokens are left out. One
/// window gives no interval. Perplexities saturate at e^300, so that nothing is infinite.
/// REQUIRES: spans of equal length, `tokens` empty or as long and ≥ 0.
PerplexityComparison compare_perplexity(std::span<const double> window_losses,
                                        std::span<const double> base_window_losses,
                                        std::span<const double> tokens = {},
                                        double confidence = kConfidence);

}  // namespace pare
