// Work on the rows of a weight, cut into blocks of fixed size, so that sums over the blocks do not
// depend on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/thread_pool.h"

namespace pare {

/// Rows of one block: enough for a matrix product to run well, few enough to share out evenly.
inline constexpr int64_t kRowBlock = 64;

inline int64_t row_block_count(int64_t rows) { return (rows + kRowBlock - 1) / kRowBlock; }

/// Calls body(first_row, end_row) for each block.
template <typename Body>
void for_row_blocks(int64_t rows, ThreadPool& pool, const Body& body) {
  pool.parallel_for(static_cast<size_t>(row_block_count(rows)), [&](size_t block, size_t) {
    const int64_t begin = static_cast<int64_t>(block) * kRowBlock;
    body(begin, std::min(rows, begin + kRowBlock));
  });
}

/// The sum of body(first_row, end_row), a double, over the blocks in their order.
template <typename Body>
double sum_row_blocks(int64_t rows, ThreadPool& pool, const Body& body) {
  std::vector<double> partial(static_cast<size_t>(row_block_count(rows)));
  for_row_blocks(rows, pool, [&](int64_t begin, int64_t end) {
    partial[static_cast<size_t>(begin / kRowBlock)] = body(begin, end);
  });
  double sum = 0;
  for (const double value : partial) sum += value;
  return sum;
}

}  // namespace pare
