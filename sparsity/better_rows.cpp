#include "sparsity/better_rows.h"

#include <algorithm>

#include "quant/blas.h"
#include "quant/row_blocks.h"
#include "quant/row_error.h"

namespace pare {

void take_better_rows(std::span<const float> target, int64_t out_features, int64_t in_features,
                      std::span<const float> gram, const PrunedWeight& other, PrunedWeight& best,
                      ThreadPool& pool) {
  use_single_threaded_blas();
  for_row_blocks(out_features, pool, [&](int64_t begin, int64_t end) {
    const int64_t rows = end - begin;
    std::vector<float> delta(static_cast<size_t>(rows * in_features));
    std::vector<float> product;
    const auto errors_of = [&](const PrunedWeight& pruned) {
      const int64_t first = begin * in_features;
      for (size_t i = 0; i < delta.size(); ++i) {
        const size_t at = static_cast<size_t>(first) + i;
        delta[i] = target[at] - pruned.weight[at];
      }
      std::vector<double> errors(static_cast<size_t>(rows));
      row_errors(delta, rows, in_features, gram.data(), in_features, product, errors);
      return errors;
    };
    const std::vector<double> now = errors_of(best);
    const std::vector<double> then = errors_of(other);
    for (int64_t row = 0; row < rows; ++row) {
      const auto index = static_cast<size_t>(row);
      if (!(then[index] < now[index])) continue;
      const int64_t first = (begin + row) * in_features;
      std::copy_n(other.weight.begin() + first, in_features, best.weight.begin() + first);
      std::copy_n(other.keep.begin() + first, in_features, best.keep.begin() + first);
    }
  });
}

}  // namespace pare
