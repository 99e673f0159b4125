#include "eval/distribution.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

#include "eval/statistics.h"
#include "pare/error.h"

namespace pare {
namespace {

Measured root_of(const Estimate& squares, double units, double confidence) {
  Measured result;
  result.value = std::sqrt(squares.mean);
  if (result.value > 0) result.standard_error = squares.standard_error / (2 * result.value);
  if (const auto interval = t_interval(squares, units, confidence)) {
    result.interval = Interval{std::sqrt(std::max(0.0, interval->lower)),
                               std::sqrt(std::max(0.0, interval->upper))};
  }
  return result;
}

/// How many independent values tell as much about the share below a quantile as these do, whose
/// share has this error. `shrink` = (z / t)² pays for an error known from few clusters.
double effective_number(double share, double standard_error, double n, double shrink) {
  const double independent = share * (1 - share) / n;
  const double variance = standard_error * standard_error;
  // An estimated variance below that of independent values is noise: it must not promise more.
  return shrink * (variance > independent ? n * independent / variance : n);
}

/// Where a continuous function falls through `level` between `low` and `high`.
template <typename Function>
double falls_through(Function function, double level, double low, double high) {
  for (int step = 0; step < 60; ++step) {
    const double middle = 0.5 * (low + high);
    (function(middle) > level ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

/// The values of the sample between which the p-quantile lies but for `miss` at each end, as far as
/// `number` independent values can tell; nothing if they do not reach that far.
std::optional<Interval> order_statistics(std::span<const float> ascending, double p, double number,
                                         double miss) {
  // The smallest of `number` values is above the quantile in (1 − p)^number of all samples.
  if (p <= 0 || p >= 1 || -number * std::log(std::max(p, 1 - p)) < -std::log(miss)) {
    return std::nullopt;
  }
  // P(at least `rank` of the values are below the quantile) falls with the rank.
  const auto at_least = [&](double rank) { return incomplete_beta(p, rank, number - rank + 1); };
  const double lower = falls_through(at_least, 1 - miss, 1, number);
  const double upper = falls_through(at_least, miss, 1, number);
  // The same place among all values, whole ranks outward.
  const double scale = (static_cast<double>(ascending.size()) + 1) / (number + 1);
  const auto last = static_cast<double>(ascending.size());
  const double below = std::clamp(std::floor(lower * scale + 1e-9), 1.0, last);
  const double above = std::clamp(std::ceil(upper * scale - 1e-9), 1.0, last);
  return Interval{static_cast<double>(ascending[static_cast<size_t>(below) - 1]),
                  static_cast<double>(ascending[static_cast<size_t>(above) - 1])};
}

}  // namespace

DistributionSummary summarize(std::span<const float> values, const Clusters& clusters,
                              std::span<const double> probabilities, double confidence) {
  DistributionSummary result;
  result.n = values.size();
  result.clusters = clusters.count();
  result.confidence = confidence;
  std::vector<double> work(values.begin(), values.end());
  for (size_t i = 0; i < work.size(); ++i) {
    if (std::isfinite(work[i])) continue;
    throw Error(ErrorCode::kNonFinite, "statistics: value " + std::to_string(i) + " of " +
                                           std::to_string(work.size()) +
                                           " is not finite; expected a number");
  }
  const double units = clusters.effective_count();
  const Estimate mean = clustered_estimate(work, clusters);
  result.mean = {mean.mean, mean.standard_error, t_interval(mean, units, confidence)};
  for (double& value : work) value *= value;
  result.rms = root_of(clustered_estimate(work, clusters), units, confidence);

  std::vector<float> ascending(values.begin(), values.end());
  std::sort(ascending.begin(), ascending.end());
  const auto n = static_cast<double>(result.n);
  const double miss = 0.5 * (1 - confidence);
  const double t =
      result.clusters < 2 ? 0 : student_t_quantile(1 - miss, std::max(units - 1, 0.05));
  const double z = normal_quantile(1 - miss);
  const double shrink = clusters.clustered() ? z * z / (t * t) : 1;
  for (const double p : probabilities) {
    QuantileSummary& summary = result.quantiles.emplace_back();
    summary.p = p;
    if (values.empty()) continue;
    summary.measured.value = quantile(ascending, p);
    if (result.clusters < 2) continue;
    size_t below = 0;
    for (size_t i = 0; i < work.size(); ++i) {
      const bool is_below = static_cast<double>(values[i]) <= summary.measured.value;
      work[i] = is_below ? 1 : 0;
      below += is_below;
    }
    const double share = static_cast<double>(below) / n;
    const double error = clustered_estimate(work, clusters).standard_error;
    const double number = effective_number(share, error, n, shrink);
    summary.measured.interval = order_statistics(ascending, p, number, miss);
    if (const auto& ends = summary.measured.interval) {
      summary.measured.standard_error = (ends->upper - ends->lower) / (2 * t);
    }
  }
  if (!ascending.empty()) {
    result.minimum = static_cast<double>(ascending.front());
    result.maximum = static_cast<double>(ascending.back());
  }
  return result;
}

}  // namespace pare
