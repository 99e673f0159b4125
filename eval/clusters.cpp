#include "eval/clusters.h"

#include <cmath>
#include <unordered_map>

#include "pare/error.h"

namespace pare {

Clusters Clusters::independent(size_t items) {
  Clusters result;
  result.items_ = items;
  return result;
}

double effective_number(std::span<const double> weights) {
  double sum = 0;
  double squares = 0;
  for (const double weight : weights) {
    sum += weight;
    squares += weight * weight;
  }
  return squares > 0 ? sum * sum / squares : 0;
}

Clusters Clusters::by_group(std::span<const uint32_t> groups) {
  Clusters result = between(groups);
  return result.weights_.size() < 2 ? independent(groups.size()) : result;
}

Clusters Clusters::between(std::span<const uint32_t> groups) {
  Clusters result = independent(groups.size());
  std::unordered_map<uint32_t, uint32_t> dense;
  result.index_.reserve(groups.size());
  for (const uint32_t group : groups) {
    const auto next = static_cast<uint32_t>(dense.size());
    const uint32_t cluster = dense.try_emplace(group, next).first->second;
    if (cluster == next) result.weights_.push_back(0);
    result.index_.push_back(cluster);
    result.weights_[cluster] += 1;
  }
  return result;
}

Clusters Clusters::runs(size_t items, size_t length) {
  if (length >= items || length == 1) return independent(items);
  std::vector<uint32_t> groups(items);
  for (size_t i = 0; i < items; ++i) groups[i] = static_cast<uint32_t>(i / length);
  return by_group(groups);
}

std::vector<double> Clusters::weights() const {
  return clustered() ? weights_ : std::vector<double>(items_, 1.0);
}

std::vector<double> Clusters::sums(std::span<const double> values) const {
  if (values.size() != items_) {
    throw Error(ErrorCode::kInternal, "statistics: expected " + std::to_string(items_) +
                                          " values, one for each clustered item, but found " +
                                          std::to_string(values.size()));
  }
  if (!clustered()) return {values.begin(), values.end()};
  std::vector<double> result(weights_.size(), 0.0);
  for (size_t i = 0; i < items_; ++i) result[index_[i]] += values[i];
  return result;
}

Estimate estimate_between(std::span<const double> sums, std::span<const double> weights) {
  Estimate result;
  double sum = 0;
  double weight = 0;
  size_t count = 0;
  for (size_t g = 0; g < sums.size(); ++g) {
    if (weights[g] <= 0) continue;
    sum += sums[g];
    weight += weights[g];
    ++count;
  }
  if (count == 0) return result;
  result.mean = sum / weight;
  if (count < 2) return result;
  double squares = 0;
  for (size_t g = 0; g < sums.size(); ++g) {
    if (weights[g] <= 0) continue;
    // Of the mean of g, not of its sum: exactly 0 where every value equals the mean.
    const double residual = (sums[g] / weights[g] - result.mean) * weights[g];
    squares += residual * residual / (1 - weights[g] / weight);
  }
  result.standard_error = std::sqrt(squares) / weight;
  return result;
}

Estimate clustered_estimate(std::span<const double> values, const Clusters& clusters) {
  return estimate_between(clusters.sums(values), clusters.weights());
}

}  // namespace pare
