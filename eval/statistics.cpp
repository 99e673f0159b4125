#include "eval/statistics.h"

#include <cmath>

namespace pare {

Estimate mean_of(std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  Estimate result;
  for (const double value : values) result.mean += value;
  result.mean /= n;
  if (values.size() < 2) return result;
  double squares = 0;
  for (const double value : values) squares += (value - result.mean) * (value - result.mean);
  result.standard_error = std::sqrt(squares / (n - 1) / n);
  return result;
}

std::vector<double> cluster_means(std::span<const float> values, size_t cluster) {
  std::vector<double> means;
  means.reserve(values.size() / cluster);
  for (size_t begin = 0; begin < values.size(); begin += cluster) {
    double sum = 0;
    for (size_t i = 0; i < cluster; ++i) sum += static_cast<double>(values[begin + i]);
    means.push_back(sum / static_cast<double>(cluster));
  }
  return means;
}

Estimate clustered_mean(std::span<const float> values, size_t cluster) {
  const size_t size = values.size() == cluster ? 1 : cluster;
  return mean_of(cluster_means(values, size));
}

Estimate paired_difference(std::span<const float> values, std::span<const float> base,
                           size_t cluster) {
  const size_t size = values.size() == cluster ? 1 : cluster;
  std::vector<double> differences = cluster_means(values, size);
  const std::vector<double> subtracted = cluster_means(base, size);
  for (size_t i = 0; i < differences.size(); ++i) differences[i] -= subtracted[i];
  return mean_of(differences);
}

double quantile(std::span<const float> ascending, double p) {
  const double position = p * static_cast<double>(ascending.size() - 1);
  const auto below = static_cast<size_t>(position);
  const auto low = static_cast<double>(ascending[below]);
  if (below + 1 >= ascending.size()) return low;
  const auto high = static_cast<double>(ascending[below + 1]);
  return low + (high - low) * (position - static_cast<double>(below));
}

}  // namespace pare
