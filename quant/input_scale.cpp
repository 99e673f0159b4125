#include "quant/input_scale.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "pare/error.h"
#include "quant/output_error.h"

namespace pare {
namespace {

constexpr float kSmallestScale = 1e-4F;
constexpr float kLargestScale = 1e4F;

[[noreturn]] void fail(const std::string& what, size_t found, size_t expected) {
  throw Error(ErrorCode::kInternal, "linear group: " + what + " has " + std::to_string(found) +
                                        " elements, expected " + std::to_string(expected));
}

size_t class_count(const LinearGroup& group) {
  int64_t last = -1;
  for (const int32_t number : group.tied_channel) last = std::max<int64_t>(last, number);
  return static_cast<size_t>(last + 1);
}

}  // namespace

void check_group(const LinearGroup& group) {
  if (group.in_features <= 0 || group.statistics == nullptr) {
    throw Error(ErrorCode::kInternal, "linear group: no input channels or no statistics");
  }
  const auto channels = static_cast<size_t>(group.in_features);
  const InputStatistics& statistics = *group.statistics;
  for (const GroupLinear& linear : group.linears) {
    const size_t expected = static_cast<size_t>(linear.out_features) * channels;
    if (linear.weight.size() != expected) fail(linear.name, linear.weight.size(), expected);
  }
  if (statistics.amax.size() != channels) fail("amax", statistics.amax.size(), channels);
  if (statistics.mean_abs.size() != channels) {
    fail("mean_abs", statistics.mean_abs.size(), channels);
  }
  if (statistics.square_sum.size() != channels) {
    fail("square_sum", statistics.square_sum.size(), channels);
  }
  if (!statistics.gram.empty() && statistics.gram.size() != channels * channels) {
    fail("gram", statistics.gram.size(), channels * channels);
  }
  const size_t sampled = static_cast<size_t>(statistics.sample_tokens) * channels;
  if (statistics.sample.size() != sampled) fail("sample", statistics.sample.size(), sampled);
  if (!group.tied_channel.empty() && group.tied_channel.size() != channels) {
    fail("tied_channel", group.tied_channel.size(), channels);
  }
  for (const int32_t number : group.tied_channel) {
    if (number < 0 || number >= group.in_features) {
      throw Error(ErrorCode::kInternal, "linear group: tied channel number " +
                                            std::to_string(number) + " of " +
                                            std::to_string(group.in_features));
    }
  }
}

std::vector<float> group_gram(const LinearGroup& group) {
  const InputStatistics& statistics = *group.statistics;
  return mean_gram(statistics.gram.empty() ? statistics.square_sum : statistics.gram,
                   statistics.tokens);
}

std::vector<uint8_t> active_channels(const LinearGroup& group) {
  std::vector<float> magnitude = group.statistics->amax;
  merge_tied_max(group, magnitude);
  std::vector<uint8_t> active(magnitude.size());
  for (size_t i = 0; i < active.size(); ++i) active[i] = magnitude[i] > 0 ? 1 : 0;
  return active;
}

void merge_tied_mean(const LinearGroup& group, std::span<float> values) {
  if (group.tied_channel.empty()) return;
  std::vector<double> sum(class_count(group));
  std::vector<double> members(sum.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const auto number = static_cast<size_t>(group.tied_channel[i]);
    sum[number] += static_cast<double>(values[i]);
    members[number] += 1;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const auto number = static_cast<size_t>(group.tied_channel[i]);
    values[i] = static_cast<float>(sum[number] / members[number]);
  }
}

void merge_tied_max(const LinearGroup& group, std::span<float> values) {
  if (group.tied_channel.empty()) return;
  std::vector<float> largest(class_count(group));
  for (size_t i = 0; i < values.size(); ++i) {
    float& slot = largest[static_cast<size_t>(group.tied_channel[i])];
    slot = std::max(slot, values[i]);
  }
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = largest[static_cast<size_t>(group.tied_channel[i])];
  }
}

void normalize_scale(std::span<const uint8_t> active, std::span<float> scale) {
  double smallest = std::numeric_limits<double>::infinity();
  double largest = 0;
  for (size_t i = 0; i < scale.size(); ++i) {
    const auto value = static_cast<double>(scale[i]);
    if (active[i] == 0 || !(value > 0) || !std::isfinite(value)) continue;
    smallest = std::min(smallest, value);
    largest = std::max(largest, value);
  }
  const double middle = largest > 0 ? std::sqrt(smallest) * std::sqrt(largest) : 1.0;
  for (size_t i = 0; i < scale.size(); ++i) {
    const auto value = static_cast<float>(static_cast<double>(scale[i]) / middle);
    // A scale of no use as it stands (an active channel whose weights are all zero) becomes 1.
    const bool usable = active[i] != 0 && scale[i] > 0 && std::isfinite(scale[i]);
    scale[i] = usable ? std::clamp(value, kSmallestScale, kLargestScale) : 1.0F;
  }
}

double output_energy(const LinearGroup& group, std::span<const float> gram, ThreadPool& pool) {
  double sum = 0;
  for (const GroupLinear& linear : group.linears) {
    sum += output_error(linear.weight, linear.out_features, group.in_features, gram, pool);
  }
  if (!std::isfinite(sum)) {
    const std::string first = group.linears.empty() ? "linear group" : group.linears.front().name;
    throw Error(ErrorCode::kNonFinite,
                first + ": weights or calibration activations hold NaN or infinity");
  }
  return sum;
}

}  // namespace pare
