#include "calib/permuted_statistics.h"

#include <algorithm>
#include <string>
#include <vector>

#include "core/permutation.h"
#include "pare/error.h"

namespace pare {
namespace {

// Rows and columns of a square matrix.
void permute_square(std::vector<double>& matrix, std::span<const int32_t> order) {
  if (matrix.empty()) return;
  permute_columns(matrix, order);
  const size_t size = order.size();
  // Rows trade places along the cycles of the order: a second matrix would be large.
  std::vector<bool> done(size, false);
  std::vector<double> first(size);
  for (size_t start = 0; start < size; ++start) {
    if (done[start]) continue;
    const auto row = [&](size_t i) { return matrix.begin() + static_cast<ptrdiff_t>(i * size); };
    std::copy_n(row(start), size, first.begin());
    size_t to = start;
    while (true) {
      done[to] = true;
      const auto from = static_cast<size_t>(order[to]);
      if (from == start) break;
      std::copy_n(row(from), size, row(to));
      to = from;
    }
    std::copy(first.begin(), first.end(), row(to));
  }
}

}  // namespace

InputStatistics permute(InputStatistics statistics, std::span<const int32_t> order) {
  if (order.size() != static_cast<size_t>(statistics.in_features)) {
    throw Error(ErrorCode::kInternal, "statistics: an order of " + std::to_string(order.size()) +
                                          " channels, expected " +
                                          std::to_string(statistics.in_features));
  }
  permute_columns(statistics.amax, order);
  permute_columns(statistics.mean_abs, order);
  permute_columns(statistics.square_sum, order);
  permute_columns(statistics.sample, order);
  permute_square(statistics.gram, order);
  permute_square(statistics.mismatch, order);
  return statistics;
}

}  // namespace pare
