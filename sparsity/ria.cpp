#include "sparsity/ria.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "pare/error.h"
#include "quant/row_blocks.h"
#include "quant/two_of_four.h"

namespace pare {
namespace {

double inverse(double sum) { return sum > 0 ? 1.0 / sum : 0.0; }

void check_sizes(size_t values, int64_t out_features, int64_t in_features) {
  if (out_features >= 0 && in_features > 0 &&
      values == static_cast<size_t>(out_features) * static_cast<size_t>(in_features)) {
    return;
  }
  throw Error(ErrorCode::kInternal, "RIA: " + std::to_string(values) + " values for [" +
                                        std::to_string(out_features) + ", " +
                                        std::to_string(in_features) + "]");
}

// Σ_i |W_ij|, added in the order of rows, so that it does not depend on threads.
std::vector<double> column_sums(std::span<const float> weight, size_t columns) {
  std::vector<double> sums(columns, 0.0);
  for (size_t first = 0; first < weight.size(); first += columns) {
    for (size_t j = 0; j < columns; ++j) {
      sums[j] += std::abs(static_cast<double>(weight[first + j]));
    }
  }
  return sums;
}

}  // namespace

std::vector<float> ria_score(std::span<const float> weight, int64_t out_features,
                             int64_t in_features, std::span<const double> square_sum,
                             ThreadPool& pool) {
  check_sizes(weight.size(), out_features, in_features);
  const auto columns = static_cast<size_t>(in_features);
  if (square_sum.size() != columns) {
    throw Error(ErrorCode::kInternal, "RIA: sums of squares for " +
                                          std::to_string(square_sum.size()) +
                                          " channels, expected " + std::to_string(in_features));
  }
  std::vector<double> by_column = column_sums(weight, columns);
  for (double& value : by_column) value = inverse(value);
  // ‖x‖^½ is the fourth root of Σ x². The largest becomes 1, as for Wanda.
  const double largest = *std::max_element(square_sum.begin(), square_sum.end());
  std::vector<double> activation(columns);
  for (size_t j = 0; j < columns; ++j) {
    activation[j] = std::sqrt(std::sqrt(square_sum[j] * inverse(largest)));
  }
  std::vector<float> score(weight.size());
  for_row_blocks(out_features, pool, [&](int64_t begin, int64_t end) {
    for (size_t row = static_cast<size_t>(begin); row < static_cast<size_t>(end); ++row) {
      const float* values = weight.data() + row * columns;
      double sum = 0;
      for (size_t j = 0; j < columns; ++j) sum += std::abs(static_cast<double>(values[j]));
      const double by_row = inverse(sum);
      for (size_t j = 0; j < columns; ++j) {
        const double magnitude = std::abs(static_cast<double>(values[j]));
        score[row * columns + j] =
            static_cast<float>((magnitude * by_row + magnitude * by_column[j]) * activation[j]);
      }
    }
  });
  return score;
}

std::vector<uint8_t> two_of_four_mask(std::span<const float> score, int64_t out_features,
                                      int64_t in_features, ThreadPool& pool) {
  if (in_features <= 0 || in_features % 4 != 0) {
    throw Error(ErrorCode::kUsage,
                "2:4 sparsity needs a number of input channels divisible by 4, found " +
                    std::to_string(in_features) + "; exclude the layer");
  }
  check_sizes(score.size(), out_features, in_features);
  std::vector<uint8_t> keep(score.size());
  for_row_blocks(out_features, pool, [&](int64_t begin, int64_t end) {
    const auto first = static_cast<size_t>(begin * in_features);
    const auto last = static_cast<size_t>(end * in_features);
    for (size_t i = first; i < last; i += 4) keep_two_of_four(score.data() + i, keep.data() + i);
  });
  return keep;
}

std::vector<uint8_t> ria_mask(std::span<const float> weight, int64_t out_features,
                              int64_t in_features, std::span<const double> square_sum,
                              std::span<const float> scale, ThreadPool& pool) {
  if (scale.empty()) {
    return two_of_four_mask(ria_score(weight, out_features, in_features, square_sum, pool),
                            out_features, in_features, pool);
  }
  check_sizes(weight.size(), out_features, in_features);
  if (scale.size() != static_cast<size_t>(in_features) || square_sum.size() != scale.size()) {
    throw Error(ErrorCode::kInternal, "RIA: a scale of " + std::to_string(scale.size()) +
                                          " channels, expected " + std::to_string(in_features));
  }
  std::vector<float> unscaled(weight.begin(), weight.end());
  for (size_t i = 0; i < unscaled.size(); ++i) unscaled[i] /= scale[i % scale.size()];
  std::vector<double> squares(square_sum.begin(), square_sum.end());
  for (size_t i = 0; i < squares.size(); ++i) {
    squares[i] *= static_cast<double>(scale[i]) * static_cast<double>(scale[i]);
  }
  return ria_mask(unscaled, out_features, in_features, squares, {}, pool);
}

}  // namespace pare
