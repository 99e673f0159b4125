// The loop of SparseGPT and GPTQ, plain: one row and one column at a time, in double, no blocks.
#pragma once

#include <cstdint>
#include <vector>

#include "quant/obs_solver.h"

namespace pare::test {

struct ObsReference {
  std::vector<double> weight;
  std::vector<uint8_t> keep;
};

/// `keep` empty: choose 2:4 when `choose`, else prune nothing. `grid` null: no rounding; its scales
/// are used as they are.
inline ObsReference solve_plainly(const std::vector<float>& weight, int64_t rows,
                                  const InverseFactor& factor, bool choose,
                                  const std::vector<uint8_t>& keep, const WeightGrid* grid) {
  const auto n = static_cast<size_t>(factor.in_features);
  ObsReference result;
  result.weight.assign(weight.begin(), weight.end());
  result.keep = keep;
  if (keep.empty()) result.keep.assign(weight.size(), 1);
  const auto upper = [&](size_t i, size_t j) {
    return static_cast<double>(factor.upper[i * n + j]);
  };
  for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
    double* w = result.weight.data() + row * n;
    uint8_t* kept = result.keep.data() + row * n;
    for (size_t j = 0; j < n; ++j) {
      if (choose && j % 4 == 0) {
        // Prune the two smallest; of equal ones the higher index first.
        for (int pruned = 0; pruned < 2; ++pruned) {
          size_t worst = n;
          for (size_t k = j; k < j + 4; ++k) {
            if (kept[k] == 0) continue;
            const double score = w[k] * w[k] / (upper(k, k) * upper(k, k));
            if (worst == n ||
                score <= w[worst] * w[worst] / (upper(worst, worst) * upper(worst, worst))) {
              worst = k;
            }
          }
          kept[worst] = 0;
        }
      }
      double value = kept[j] != 0 ? w[j] : 0.0;
      if (grid != nullptr) {
        value =
            static_cast<double>(round_to_grid(*grid, static_cast<int64_t>(row),
                                              static_cast<int64_t>(j), static_cast<float>(value))
                                    .value);
      }
      const double error = (w[j] - value) / upper(j, j);
      w[j] = value;
      for (size_t k = j + 1; k < n; ++k) w[k] -= error * upper(j, k);
    }
  }
  return result;
}

}  // namespace pare::test
