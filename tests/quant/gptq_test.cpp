// GPTQ in activation order against a plain loop, and what it is for.
#include "quant/gptq.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "pare/error.h"
#include "quant/clip_search.h"
#include "quant/output_error.h"
#include "tests/quant/random_layer.h"

namespace pare {
namespace {

struct GptqLayer {
  int64_t rows;
  int64_t columns;
  std::vector<float> weight;
  std::vector<double> gram;
  OrderedFactor factor;
  ThreadPool pool{2};

  GptqLayer(uint32_t seed, int64_t out_features, int64_t in_features)
      : rows(out_features), columns(in_features) {
    const auto x = test::random_activations(seed, 3 * columns, columns, 5);
    gram = test::statistics_of(x, 3 * columns, columns).gram;
    weight = test::random_weight(seed + 1000, rows, columns);
    factor = factorize_by_activation(gram, columns, 0.01, "layer");
  }
  WeightGrid grid(int64_t group_size, bool symmetric) const {
    return absmax_grid(
        weight, rows, columns,
        {.format = WeightFormat::kInt4, .group_size = group_size, .symmetric = symmetric});
  }
  double error(const WeightGrid& grid, const std::vector<int8_t>& codes) {
    std::vector<float> delta(weight.size());
    for (size_t i = 0; i < delta.size(); ++i) {
      const size_t index =
          grid.scale_index(static_cast<int64_t>(i) / columns, static_cast<int64_t>(i) % columns);
      const int zero = grid.symmetric ? 0 : grid.zero_point[index];
      delta[i] = weight[i] - static_cast<float>(codes[i] - zero) * grid.scale[index];
    }
    return output_error(delta, rows, columns, mean_gram(gram, 3 * columns), pool);
  }
};

TEST(Gptq, ColumnsGoByFallingEnergyAndTiesByNumber) {
  std::vector<double> gram(25, 0.0);
  const std::vector<double> energy = {2, 5, 2, 7, 0};
  for (size_t i = 0; i < 5; ++i) gram[i * 6] = energy[i];
  const OrderedFactor factor = factorize_by_activation(gram, 5, 0.01, "layer");
  EXPECT_EQ(factor.order, (std::vector<int32_t>{3, 1, 0, 2, 4}));
  EXPECT_EQ(factor.factor.dead, (std::vector<uint8_t>{0, 0, 0, 0, 1}));
}

// One row, one column at a time, in double, with the scale of the column's own group.
std::vector<int8_t> plain_codes(const GptqLayer& layer, const WeightGrid& grid,
                                const std::vector<uint8_t>& keep, int64_t row) {
  const auto n = static_cast<size_t>(layer.columns);
  const std::vector<int32_t>& order = layer.factor.order;
  std::vector<double> w(n);
  std::vector<int8_t> codes(n);
  for (size_t j = 0; j < n; ++j) {
    w[j] = static_cast<double>(
        layer.weight[static_cast<size_t>(row) * n + static_cast<size_t>(order[j])]);
  }
  for (size_t j = 0; j < n; ++j) {
    const auto column = static_cast<size_t>(order[j]);
    const bool kept = keep.empty() || keep[static_cast<size_t>(row) * n + column] != 0;
    const GridValue found = round_to_grid(grid, row, static_cast<int64_t>(column),
                                          kept ? static_cast<float>(w[j]) : 0.0F);
    codes[column] = found.code;
    const float* upper = layer.factor.factor.upper.data() + j * n;
    const double error = (w[j] - static_cast<double>(found.value)) / static_cast<double>(upper[j]);
    for (size_t k = j + 1; k < n; ++k) w[k] -= error * static_cast<double>(upper[k]);
  }
  return codes;
}

TEST(Gptq, EqualsThePlainLoop) {
  for (const bool symmetric : {true, false}) {
    for (const int64_t group : {int64_t{32}, kPerChannel}) {
      // More columns than a block, and a last group that is shorter.
      GptqLayer layer(11, 70, 300);
      const WeightGrid grid = layer.grid(group, symmetric);
      std::vector<uint8_t> keep(layer.weight.size());
      for (size_t i = 0; i < keep.size(); ++i) keep[i] = (i * 7 + i / 5) % 3 != 0 ? 1 : 0;
      for (const auto& mask : {std::vector<uint8_t>{}, keep}) {
        const auto codes = gptq_codes(layer.weight, mask, grid, layer.factor, layer.pool);
        // Float and double may round differently at a near tie, and the rest of that row with it.
        int64_t equal = 0;
        for (int64_t row = 0; row < layer.rows; ++row) {
          const auto first = codes.begin() + row * layer.columns;
          const auto expected = plain_codes(layer, grid, mask, row);
          equal += std::equal(expected.begin(), expected.end(), first) ? 1 : 0;
        }
        EXPECT_GE(equal, layer.rows - 3) << "group " << group << ", symmetric " << symmetric;
        for (size_t i = 0; i < mask.size(); ++i) {
          if (mask[i] != 0) continue;
          const size_t index = grid.scale_index(static_cast<int64_t>(i) / layer.columns,
                                                static_cast<int64_t>(i) % layer.columns);
          ASSERT_EQ(codes[i], symmetric ? 0 : grid.zero_point[index]);
        }
      }
    }
  }
}

TEST(Gptq, LosesLessThanRounding) {
  for (const uint32_t seed : {1U, 2U, 3U}) {
    SCOPED_TRACE(test::seed_text(seed));
    GptqLayer layer(seed, 64, 128);
    const WeightGrid grid =
        search_clip(layer.weight, layer.rows, layer.columns, {WeightFormat::kInt4, 32, true},
                    mean_gram(layer.gram, 3 * layer.columns), {}, layer.pool);
    const double rounded = layer.error(grid, encode(grid, layer.weight, layer.pool));
    const double solved =
        layer.error(grid, gptq_codes(layer.weight, {}, grid, layer.factor, layer.pool));
    EXPECT_LT(solved, 0.8 * rounded);
  }
}

TEST(Gptq, ThreadsDoNotChangeACode) {
  GptqLayer layer(5, 200, 96);
  const WeightGrid grid = layer.grid(16, true);
  ThreadPool one(1);
  EXPECT_EQ(gptq_codes(layer.weight, {}, grid, layer.factor, one),
            gptq_codes(layer.weight, {}, grid, layer.factor, layer.pool));
}

TEST(Gptq, AMatrixOfAnotherSizeIsRefused) {
  EXPECT_THROW(factorize_by_activation(std::vector<double>(10), 3, 0.01, "layer"), Error);
}

}  // namespace
}  // namespace pare
