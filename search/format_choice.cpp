#include "search/format_choice.h"

#include <algorithm>
#include <limits>

namespace pare {
namespace {

// The best format of a group at a price of `price` a bit.
size_t best_at(const FormatCosts& group, double price) {
  size_t best = 0;
  double least = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < group.bits.size(); ++i) {
    const double cost = group.loss[i] + price * static_cast<double>(group.bits[i]);
    if (cost < least || (cost == least && group.bits[i] < group.bits[best])) {
      least = cost;
      best = i;
    }
  }
  return best;
}

std::vector<size_t> choice_at(std::span<const FormatCosts> groups, double price) {
  std::vector<size_t> choice;
  choice.reserve(groups.size());
  for (const FormatCosts& group : groups) choice.push_back(best_at(group, price));
  return choice;
}

std::vector<size_t> smallest(std::span<const FormatCosts> groups) {
  std::vector<size_t> choice;
  for (const FormatCosts& group : groups) {
    size_t best = 0;
    for (size_t i = 1; i < group.bits.size(); ++i) {
      const bool fewer = group.bits[i] < group.bits[best];
      const bool equal = group.bits[i] == group.bits[best];
      if (fewer || (equal && group.loss[i] < group.loss[best])) best = i;
    }
    choice.push_back(best);
  }
  return choice;
}

// Prices at which a group's choice can change.
std::vector<double> prices_of(std::span<const FormatCosts> groups) {
  std::vector<double> prices = {0};
  for (const FormatCosts& group : groups) {
    for (size_t i = 0; i < group.bits.size(); ++i) {
      for (size_t j = 0; j < group.bits.size(); ++j) {
        if (group.bits[i] <= group.bits[j]) continue;
        const double gain = group.loss[j] - group.loss[i];
        if (gain > 0) prices.push_back(gain / static_cast<double>(group.bits[i] - group.bits[j]));
      }
    }
  }
  std::sort(prices.begin(), prices.end());
  prices.erase(std::unique(prices.begin(), prices.end()), prices.end());
  return prices;
}

// Spends what is left, one group at a time.
void fill(std::span<const FormatCosts> groups, int64_t budget, std::vector<size_t>& choice) {
  int64_t left = budget - total_bits(groups, choice);
  while (left > 0) {
    double best_rate = 0;
    size_t group = 0;
    size_t format = 0;
    for (size_t g = 0; g < groups.size(); ++g) {
      const FormatCosts& costs = groups[g];
      for (size_t i = 0; i < costs.bits.size(); ++i) {
        const int64_t more = costs.bits[i] - costs.bits[choice[g]];
        const double gain = costs.loss[choice[g]] - costs.loss[i];
        if (more > left || gain <= 0) continue;
        const double rate = gain / static_cast<double>(std::max<int64_t>(more, 1));
        if (rate <= best_rate) continue;
        best_rate = rate;
        group = g;
        format = i;
      }
    }
    if (best_rate == 0) return;
    left -= groups[group].bits[format] - groups[group].bits[choice[group]];
    choice[group] = format;
  }
}

}  // namespace

int64_t total_bits(std::span<const FormatCosts> groups, std::span<const size_t> choice) {
  int64_t bits = 0;
  for (size_t i = 0; i < groups.size(); ++i) bits += groups[i].bits[choice[i]];
  return bits;
}

double total_loss(std::span<const FormatCosts> groups, std::span<const size_t> choice) {
  double loss = 0;
  for (size_t i = 0; i < groups.size(); ++i) loss += groups[i].loss[choice[i]];
  return loss;
}

std::vector<size_t> choose_formats(std::span<const FormatCosts> groups, int64_t budget) {
  const std::vector<double> prices = prices_of(groups);
  // Just above a price at which a choice changes the cheaper side is taken.
  const auto above = [&](size_t i) {
    const double next = i + 1 < prices.size() ? prices[i + 1] : 2 * prices[i] + 1;
    return choice_at(groups, prices[i] + (next - prices[i]) / 2);
  };
  size_t low = 0;  // the smallest index that keeps the budget lies in [low, high)
  size_t high = prices.size();
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (total_bits(groups, above(middle)) <= budget) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  std::vector<size_t> choice = low < prices.size() ? above(low) : smallest(groups);
  fill(groups, budget, choice);
  return choice;
}

}  // namespace pare
