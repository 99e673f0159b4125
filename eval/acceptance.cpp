#include "eval/acceptance.h"

#include <algorithm>
#include <cassert>

#include "eval/clusters.h"
#include "eval/intervals.h"

namespace pare {
namespace {

// Mean over windows of equal weight from their sums, with values in [0, largest].
Measured mean_between_windows(std::span<const double> sums, size_t items, double largest,
                              double confidence) {
  const std::vector<double> weights(sums.size(), static_cast<double>(items));
  const Estimate estimate = estimate_between(sums, weights);
  Measured result{estimate.mean, estimate.standard_error, {}};
  if (estimate.standard_error > 0) {
    result.interval = t_interval(estimate, static_cast<double>(sums.size()), confidence);
  }
  if (result.interval.has_value()) {
    result.interval =
        Interval{std::max(result.interval->lower, 0.0), std::min(result.interval->upper, largest)};
  }
  return result;
}

// Adds the sums over starts of Π_{j<k} α_{i+j}, for k = 1 … longest, to sums[k − 1].
void add_products(std::span<const float> window, std::span<double> sums) {
  const size_t longest = sums.size();
  for (size_t start = 0; start < draft_starts(window.size(), longest); ++start) {
    double product = 1;
    for (size_t k = 0; k < longest && product > 0; ++k) {
      product *= static_cast<double>(window[start + k]);
      sums[k] += product;
    }
  }
}

}  // namespace

AcceptanceCurve acceptance_curve(std::span<const float> acceptance, size_t window, size_t longest,
                                 double confidence) {
  assert(longest >= 1 && longest <= window);
  assert(!acceptance.empty() && acceptance.size() % window == 0);
  const size_t windows = acceptance.size() / window;
  std::vector<double> rates(windows);
  std::vector<std::vector<double>> lengths(longest, std::vector<double>(windows));  // [γ][window]
  std::vector<double> sums(longest);
  for (size_t w = 0; w < windows; ++w) {
    const std::span<const float> values = acceptance.subspan(w * window, window);
    for (const float value : values) rates[w] += static_cast<double>(value);
    std::fill(sums.begin(), sums.end(), 0.0);
    add_products(values, sums);
    double accepted = 0;
    for (size_t k = 0; k < longest; ++k) lengths[k][w] = accepted += sums[k];
  }
  AcceptanceCurve curve;
  curve.rate = mean_between_windows(rates, window, 1, confidence);
  const size_t starts = draft_starts(window, longest);
  for (size_t k = 0; k < longest; ++k) {
    curve.accepted.push_back(
        mean_between_windows(lengths[k], starts, static_cast<double>(k + 1), confidence));
  }
  return curve;
}

double iid_accepted(double rate, int64_t draft_length) {
  double sum = 0;
  double power = 1;
  for (int64_t k = 0; k < draft_length; ++k) sum += power *= rate;
  return sum;
}

Measured expected_speedup(const Measured& accepted, int64_t draft_length, double cost) {
  const double time = static_cast<double>(draft_length) * cost + 1;
  Measured result{(1 + accepted.value) / time, accepted.standard_error / time, {}};
  if (accepted.interval.has_value()) {
    result.interval =
        Interval{(1 + accepted.interval->lower) / time, (1 + accepted.interval->upper) / time};
  }
  return result;
}

int64_t best_draft_length(std::span<const Measured> speedups) {
  int64_t best = 0;
  double largest = 1;
  for (size_t i = 0; i < speedups.size(); ++i) {
    if (!(speedups[i].value > largest)) continue;
    largest = speedups[i].value;
    best = static_cast<int64_t>(i) + 1;
  }
  return best;
}

}  // namespace pare
