#include "eval/intervals.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "pare/error.h"

namespace pare {
namespace {

/// Fewer flips than this do not show how they spread over clusters.
constexpr size_t kFewFlips = 10;

void check_confidence(double confidence) {
  if (confidence > 0 && confidence < 1) return;
  throw Error(ErrorCode::kUsage,
              "statistics: expected a confidence between 0 and 1, such as 0.95, "
              "but found " +
                  std::to_string(confidence));
}

void check_sizes(size_t found, size_t expected, const char* what) {
  if (found == expected) return;
  throw Error(ErrorCode::kInternal, "statistics: expected " + std::to_string(expected) + " " +
                                        what + ", as many as of the baseline, but found " +
                                        std::to_string(found));
}

void check_finite(std::span<const double> values, const char* what) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    throw Error(ErrorCode::kNonFinite, std::string("statistics: ") + what + " " +
                                           std::to_string(i) + " is not finite; expected a number");
  }
}

/// The two-sided critical value of the normal distribution.
double critical_z(double confidence) { return normal_quantile(0.5 + 0.5 * confidence); }

void widen(std::optional<Interval>& interval, const Interval& other) {
  if (!interval) interval = other;
  interval->lower = std::min(interval->lower, other.lower);
  interval->upper = std::max(interval->upper, other.upper);
}

Measured measured(const Estimate& estimate, double units, double confidence) {
  return {estimate.mean, estimate.standard_error, t_interval(estimate, units, confidence)};
}

Measured proportion(size_t right, size_t n, double confidence) {
  Measured result;
  if (n == 0) return result;
  result.value = static_cast<double>(right) / static_cast<double>(n);
  result.standard_error = std::sqrt(result.value * (1 - result.value) / static_cast<double>(n));
  result.interval = wilson_interval(right, n, confidence);
  return result;
}

double saturated_exp(double x) { return std::exp(std::clamp(x, -300.0, 300.0)); }

/// exp of a figure on the log scale: error by the delta method, ends by exp.
Measured exponential(const Measured& log) {
  Measured result;
  result.value = saturated_exp(log.value);
  result.standard_error = result.value * log.standard_error;
  if (log.interval) {
    result.interval =
        Interval{saturated_exp(log.interval->lower), saturated_exp(log.interval->upper)};
  }
  return result;
}

/// accuracy / base_accuracy − 1. By the delta method the error is that of the mean of
/// (right − ratio · base_right) / base_accuracy, summed within clusters as ever.
Measured relative_change(std::span<const double> right, std::span<const double> base_right,
                         const AccuracyComparison& comparison, const Clusters& clusters) {
  Measured result;
  const double base = comparison.base_accuracy.value;
  if (base == 0) return result;
  const double ratio = comparison.accuracy.value / base;
  std::vector<double> linear(right.size());
  for (size_t i = 0; i < linear.size(); ++i) linear[i] = (right[i] - ratio * base_right[i]) / base;
  Estimate estimate = clustered_estimate(linear, clusters);
  // From counts, so that equal accuracies give exactly 0.
  estimate.mean = comparison.difference.value / base;
  return measured(estimate, clusters.effective_count(), comparison.confidence);
}

}  // namespace

Interval wilson_interval(size_t right, size_t n, double confidence) {
  check_confidence(confidence);
  if (n == 0) return {0, 1};
  const auto items = static_cast<double>(n);
  const double p = static_cast<double>(right) / items;
  const double z = critical_z(confidence);
  const double shrink = 1 + z * z / items;
  const double centre = (p + z * z / (2 * items)) / shrink;
  const double half = z * std::sqrt(p * (1 - p) / items + z * z / (4 * items * items)) / shrink;
  // The ends at 0 and 1 are exact; rounding must not move them past the proportion.
  return {std::clamp(centre - half, 0.0, p), std::clamp(centre + half, p, 1.0)};
}

Interval paired_score_interval(size_t lost, size_t gained, size_t n, double confidence) {
  check_confidence(confidence);
  if (n == 0) return {-1, 1};
  const double z = critical_z(confidence);
  const auto pairs = static_cast<double>(n);
  const auto up = static_cast<double>(gained);
  const auto down = static_cast<double>(lost);
  // Is `delta` rejected? The variance is that of the likeliest model with this difference, whose
  // probability of a loss, q, solves a quadratic equation.
  const auto rejected = [&](double delta) {
    const double b = (2 * pairs - up + down) * delta - up - down;
    const double c = -down * delta * (1 - delta);
    const double root = std::sqrt(std::max(0.0, b * b - 8 * pairs * c));
    const double q = std::max(0.0, (root - b) / (4 * pairs));
    const double variance = pairs * std::max(0.0, 2 * q + delta * (1 - delta));
    const double deviation = up - down - pairs * delta;
    return deviation * deviation > z * z * variance;
  };
  const double estimate = (up - down) / pairs;
  const auto end = [&](double outside) {
    if (!rejected(outside)) return outside;
    double inside = estimate;
    for (int step = 0; step < 64; ++step) {
      const double middle = 0.5 * (inside + outside);
      (rejected(middle) ? outside : inside) = middle;
    }
    return inside;
  };
  return {end(-1), end(1)};
}

std::optional<Interval> t_interval(const Estimate& estimate, double units, double confidence) {
  check_confidence(confidence);
  // Below a twentieth of a degree of freedom the interval is the whole line.
  constexpr double kLeastUnits = 1.05;
  if (units < kLeastUnits) return std::nullopt;
  const double t = student_t_quantile(0.5 + 0.5 * confidence, units - 1);
  const double half = t * estimate.standard_error;
  return Interval{estimate.mean - half, estimate.mean + half};
}

AccuracyComparison compare_accuracy(std::span<const uint8_t> right,
                                    std::span<const uint8_t> base_right, const Clusters& clusters,
                                    double confidence) {
  check_confidence(confidence);
  check_sizes(right.size(), base_right.size(), "answers");
  check_sizes(clusters.size(), base_right.size(), "clustered answers");
  AccuracyComparison result;
  result.n = right.size();
  result.clusters = clusters.count();
  result.clustered = clusters.clustered();
  result.confidence = confidence;
  if (result.n == 0) return result;

  std::vector<double> candidate(result.n);
  std::vector<double> base(result.n);
  std::vector<double> change(result.n);
  for (size_t i = 0; i < result.n; ++i) {
    candidate[i] = right[i] != 0 ? 1 : 0;
    base[i] = base_right[i] != 0 ? 1 : 0;
    change[i] = candidate[i] - base[i];
    result.right += right[i] != 0;
    result.base_right += base_right[i] != 0;
    result.gained += change[i] > 0;
    result.lost += change[i] < 0;
  }
  const auto n = static_cast<double>(result.n);
  result.flips = static_cast<double>(result.lost + result.gained) / n;
  result.mcnemar_p = mcnemar_exact_p(result.lost, result.gained);
  result.base_accuracy = proportion(result.base_right, result.n, confidence);
  result.accuracy = proportion(result.right, result.n, confidence);

  const Interval score = paired_score_interval(result.lost, result.gained, result.n, confidence);
  const bool few = result.lost + result.gained < kFewFlips;
  result.difference =
      measured(clustered_estimate(change, clusters), clusters.effective_count(), confidence);
  if (!result.clustered) result.difference.interval = score;
  if (few) widen(result.difference.interval, score);
  result.relative = relative_change(candidate, base, result, clusters);
  const double accuracy = result.base_accuracy.value;
  if (few && accuracy > 0) {
    widen(result.relative.interval, {score.lower / accuracy, score.upper / accuracy});
  }
  return result;
}

MeanComparison compare_means(std::span<const double> values, std::span<const double> base_values,
                             const Clusters& clusters, double confidence) {
  check_confidence(confidence);
  check_sizes(values.size(), base_values.size(), "values");
  check_sizes(clusters.size(), base_values.size(), "clustered values");
  check_finite(values, "the candidate's value");
  check_finite(base_values, "the baseline's value");
  std::vector<double> change(values.size());
  for (size_t i = 0; i < change.size(); ++i) change[i] = values[i] - base_values[i];
  MeanComparison result;
  result.n = values.size();
  result.clusters = clusters.count();
  result.confidence = confidence;
  result.base_mean =
      measured(clustered_estimate(base_values, clusters), clusters.effective_count(), confidence);
  result.mean =
      measured(clustered_estimate(values, clusters), clusters.effective_count(), confidence);
  result.difference =
      measured(clustered_estimate(change, clusters), clusters.effective_count(), confidence);
  return result;
}

PerplexityComparison compare_perplexity(std::span<const double> window_losses,
                                        std::span<const double> base_window_losses,
                                        std::span<const double> tokens, double confidence) {
  check_confidence(confidence);
  check_sizes(window_losses.size(), base_window_losses.size(), "windows");
  if (!tokens.empty()) check_sizes(tokens.size(), base_window_losses.size(), "counts of tokens");
  check_finite(window_losses, "the candidate's loss of window");
  check_finite(base_window_losses, "the baseline's loss of window");
  check_finite(tokens, "the number of tokens of window");

  const size_t all = window_losses.size();
  PerplexityComparison result;
  result.confidence = confidence;
  result.ratio.value = 1;
  std::vector<double> weights;
  std::vector<double> sums;
  std::vector<double> base_sums;
  std::vector<double> change;
  for (size_t i = 0; i < all; ++i) {
    const double weight = tokens.empty() ? 1 : tokens[i];
    if (weight <= 0) continue;
    weights.push_back(weight);
    sums.push_back(weight * window_losses[i]);
    base_sums.push_back(weight * base_window_losses[i]);
    change.push_back(weight * (window_losses[i] - base_window_losses[i]));
  }
  result.windows = weights.size();
  if (result.windows == 0) return result;

  const double units = effective_number(weights);
  const Estimate loss = estimate_between(sums, weights);
  const Estimate base = estimate_between(base_sums, weights);
  // Directly from differences: var + var − 2 covariance would cancel all digits of a small change.
  const Estimate log_ratio = estimate_between(change, weights);
  result.perplexity = exponential(measured(loss, units, confidence));
  result.base_perplexity = exponential(measured(base, units, confidence));
  result.log_ratio = measured(log_ratio, units, confidence);
  result.ratio = exponential(result.log_ratio);

  const auto variance = [](const Estimate& e) { return e.standard_error * e.standard_error; };
  result.covariance = 0.5 * (variance(loss) + variance(base) - variance(log_ratio));
  const double errors = loss.standard_error * base.standard_error;
  if (errors > 0) result.correlation = std::clamp(result.covariance / errors, -1.0, 1.0);

  // d(e^a − e^b) = e^a da − e^b db, window by window.
  std::vector<double> linear(result.windows);
  for (size_t i = 0; i < linear.size(); ++i) {
    linear[i] = result.perplexity.value * (sums[i] - weights[i] * loss.mean) -
                result.base_perplexity.value * (base_sums[i] - weights[i] * base.mean);
  }
  Estimate difference = estimate_between(linear, weights);
  difference.mean = result.perplexity.value - result.base_perplexity.value;
  result.difference = measured(difference, units, confidence);
  return result;
}

}  // namespace pare
