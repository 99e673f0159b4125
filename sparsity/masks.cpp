#include "sparsity/masks.h"

#include <cmath>
#include <string>

#include "pare/error.h"
#include "quant/row_blocks.h"
#include "quant/two_of_four.h"

namespace pare {
namespace {

/// Score |w| × channel_weight of the channel.
std::vector<uint8_t> choose_mask(std::span<const float> weight, int64_t out_features,
                                 int64_t in_features, std::span<const float> channel_weight,
                                 ThreadPool& pool) {
  const auto columns = static_cast<size_t>(in_features);
  if (in_features <= 0 || in_features % 4 != 0) {
    throw Error(ErrorCode::kUsage,
                "2:4 sparsity needs a number of input channels divisible by 4, "
                "found " +
                    std::to_string(in_features) + "; exclude the layer");
  }
  if (weight.size() != static_cast<size_t>(out_features) * columns) {
    throw Error(ErrorCode::kInternal, "2:4 mask: " + std::to_string(weight.size()) +
                                          " weights for [" + std::to_string(out_features) + ", " +
                                          std::to_string(in_features) + "]");
  }
  std::vector<uint8_t> keep(weight.size());
  for_row_blocks(out_features, pool, [&](int64_t begin, int64_t end) {
    for (size_t row = static_cast<size_t>(begin); row < static_cast<size_t>(end); ++row) {
      for (size_t column = 0; column < columns; column += 4) {
        const size_t first = row * columns + column;
        float score[4];
        for (size_t i = 0; i < 4; ++i) {
          score[i] = std::abs(weight[first + i]) * channel_weight[column + i];
        }
        keep_two_of_four(score, keep.data() + first);
      }
    }
  });
  return keep;
}

}  // namespace

std::vector<uint8_t> magnitude_mask(std::span<const float> weight, int64_t out_features,
                                    int64_t in_features, ThreadPool& pool) {
  const std::vector<float> ones(static_cast<size_t>(in_features < 0 ? 0 : in_features), 1.0F);
  return choose_mask(weight, out_features, in_features, ones, pool);
}

std::vector<uint8_t> wanda_mask(std::span<const float> weight, int64_t out_features,
                                int64_t in_features, std::span<const double> square_sum,
                                ThreadPool& pool) {
  if (square_sum.size() != static_cast<size_t>(in_features)) {
    throw Error(ErrorCode::kInternal, "Wanda: sums of squares for " +
                                          std::to_string(square_sum.size()) +
                                          " channels, expected " + std::to_string(in_features));
  }
  return choose_mask(weight, out_features, in_features, relative_norms(square_sum), pool);
}

// The largest norm becomes 1: a common factor does not change the order within a row, and keeps the
// scores of a large calibration set away from the end of the float range.
std::vector<float> relative_norms(std::span<const double> square_sum) {
  double largest = 0;
  for (const double value : square_sum) largest = value > largest ? value : largest;
  const double factor = largest > 0 ? 1.0 / largest : 1.0;
  std::vector<float> norm(square_sum.size());
  for (size_t i = 0; i < norm.size(); ++i) {
    norm[i] = static_cast<float>(std::sqrt(square_sum[i] * factor));
  }
  return norm;
}

}  // namespace pare
