// Statistics, both over all linears of the group at once:
//   x_j = mean over tokens |x_j|,   w_j = mean over rows of |W_ij| / absmax(scale run of i, j).
// Candidates: the identity; s = x^r / w^(1−r) and s = x^r for r = 0 … 1, each divided by
// sqrt(max s × min s). Every candidate is judged on the plain absmax grid; the best few and the
// identity again on the grid with searched clipping, because that is what will be stored.
#include "quant/awq.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "quant/grid_rounding.h"
#include "quant/input_scale.h"
#include "quant/scaled_error.h"

namespace pare {
namespace {

constexpr int kRatioSteps = 20;
constexpr size_t kFinalists = 5;

struct Candidate {
  std::vector<float> scale;  ///< Ones for the identity.
  std::string detail;
  double error = 0;
};

/// Mean over rows of |W_ij| relative to the largest magnitude that shares its scale.
std::vector<float> relative_weight_magnitude(const LinearGroup& group, const GridSpec& spec) {
  const auto columns = static_cast<size_t>(group.in_features);
  const auto length = static_cast<size_t>(run_length(spec.group_size, group.in_features));
  std::vector<double> sum(columns);
  double rows = 0;
  for (const GroupLinear& linear : group.linears) {
    const std::span<const float> weight = linear.weight;
    rows += static_cast<double>(linear.out_features);
    for (size_t first = 0; first < weight.size(); first += columns) {
      for (size_t column = 0; column < columns; column += length) {
        const size_t count = std::min(length, columns - column);
        const std::span<const float> run = weight.subspan(first + column, count);
        const ValueRange range = value_range(run);
        const float absmax = std::max(-range.lowest, range.highest);
        if (!(absmax > 0)) continue;
        for (size_t i = 0; i < count; ++i) {
          sum[column + i] += static_cast<double>(std::abs(run[i]) / absmax);
        }
      }
    }
  }
  std::vector<float> mean(columns);
  for (size_t i = 0; i < columns; ++i) {
    mean[i] = rows > 0 ? static_cast<float>(sum[i] / rows) : 0.0F;
  }
  return mean;
}

/// x^r / w^weight_power, normalised. A channel whose weights are all zero has no w to divide by.
std::vector<float> scale_for(std::span<const float> activation, std::span<const float> weight,
                             double ratio, double weight_power, std::span<const uint8_t> active) {
  std::vector<float> scale(activation.size());
  for (size_t i = 0; i < scale.size(); ++i) {
    const double magnitude = std::pow(static_cast<double>(activation[i]), ratio);
    const double divisor =
        weight[i] > 0 ? std::pow(static_cast<double>(weight[i]), weight_power) : 1.0;
    scale[i] = static_cast<float>(magnitude / divisor);
  }
  normalize_scale(active, scale);
  return scale;
}

std::string ratio_detail(double ratio, bool with_weight) {
  char text[64];
  std::snprintf(text, sizeof text, "ratio %.2f%s", ratio, with_weight ? "" : ", activations only");
  return text;
}

std::vector<Candidate> make_candidates(const LinearGroup& group, const GridSpec& spec) {
  const std::vector<uint8_t> active = active_channels(group);
  std::vector<float> activation = group.statistics->mean_abs;
  std::vector<float> weight = relative_weight_magnitude(group, spec);
  merge_tied_mean(group, activation);
  merge_tied_mean(group, weight);
  std::vector<Candidate> candidates;
  candidates.push_back({std::vector<float>(activation.size(), 1.0F), "identity", 0});
  for (int step = 0; step <= kRatioSteps; ++step) {
    const double ratio = static_cast<double>(step) / kRatioSteps;
    candidates.push_back(
        {scale_for(activation, weight, ratio, 1 - ratio, active), ratio_detail(ratio, true), 0});
    // Ratio 0 without weights is the identity, ratio 1 is the same with and without.
    if (step == 0 || step == kRatioSteps) continue;
    candidates.push_back(
        {scale_for(activation, weight, ratio, 0, active), ratio_detail(ratio, false), 0});
  }
  return candidates;
}

}  // namespace

InputScaling search_awq(const LinearGroup& group, const GridSpec& spec, bool clip,
                        ThreadPool& pool) {
  check_group(group);
  const std::vector<float> gram = group_gram(group);
  const double energy = output_energy(group, gram, pool);
  InputScaling result;
  if (!(energy > 0)) {
    result.detail = "identity: no output to measure";
    return result;
  }
  std::vector<Candidate> candidates = make_candidates(group, spec);
  for (Candidate& candidate : candidates) {
    candidate.error = absmax_scaled_error(group, candidate.scale, spec, gram, pool);
  }
  // The identity stays in front, whatever its error.
  std::stable_sort(candidates.begin() + 1, candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.error < b.error; });
  candidates.resize(std::min(candidates.size(), kFinalists + 1));
  for (Candidate& candidate : candidates) {
    if (!clip) break;
    candidate.error = clipped_scaled_error(group, candidate.scale, spec, gram, pool);
  }
  const Candidate* best = &candidates.front();
  for (const Candidate& candidate : candidates) {
    if (candidate.error < best->error) best = &candidate;
  }
  result.identity_loss = candidates.front().error / energy;
  result.loss = best->error / energy;
  result.detail = best->detail;
  if (best != &candidates.front()) result.scale = best->scale;
  return result;
}

}  // namespace pare
