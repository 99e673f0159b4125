// One of several formats for each group of weights, least loss under a budget of bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace pare {

/// What each format would take and lose in one group; the two lists are parallel.
struct FormatCosts {
  std::vector<int64_t> bits;
  std::vector<double> loss;
};

/// Index of the format of each group with Σ loss small and Σ bits ≤ budget: the Lagrangian choice
/// argmin loss + λ bits with the smallest λ that keeps the budget, then, while bits are left, the
/// single change that gains most a bit. No other choice with at most the bits of the first step has
/// a smaller loss. A budget below the smallest possible gives the smallest choice. Ties go to fewer
/// bits, then to the earlier format.
std::vector<size_t> choose_formats(std::span<const FormatCosts> groups, int64_t budget);

int64_t total_bits(std::span<const FormatCosts> groups, std::span<const size_t> choice);
double total_loss(std::span<const FormatCosts> groups, std::span<const size_t> choice);

}  // namespace pare
