// Coordinate descent on codes against a plain loop, and what it must leave alone.
#include "quant/coordinate_descent.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "quant/clip_search.h"
#include "quant/gptq.h"
#include "quant/grid_rounding.h"
#include "quant/output_error.h"
#include "tests/quant/random_layer.h"

namespace pare {
namespace {

constexpr double kDamping = 0.01;

struct RoundedLayer {
  int64_t rows;
  int64_t columns;
  std::vector<float> weight;
  std::vector<double> gram_sum;
  std::vector<float> gram;
  std::vector<float> diagonal;
  ThreadPool pool{2};

  RoundedLayer(uint32_t seed, int64_t out_features, int64_t in_features)
      : rows(out_features), columns(in_features) {
    const auto x = test::random_activations(seed, 3 * columns, columns, 5);
    gram_sum = test::statistics_of(x, 3 * columns, columns).gram;
    gram = mean_gram(gram_sum, 3 * columns);
    weight = test::random_weight(seed + 1000, rows, columns);
    diagonal = descent_diagonal(gram, columns, {}, kDamping);
  }

  WeightGrid grid(const GridSpec& spec) const {
    return absmax_grid(weight, rows, columns, with_global_scale(spec, 0.1F));
  }
  std::vector<int8_t> solve(const WeightGrid& grid, const std::vector<uint8_t>& keep = {}) {
    const OrderedFactor factor = factorize_by_activation(gram_sum, columns, kDamping, "layer");
    return gptq_codes(weight, keep, grid, factor, pool);
  }
  void descend(WeightGrid& grid, std::vector<int8_t>& codes, const std::vector<uint8_t>& keep = {},
               bool fit_scales = true) {
    descend_codes(weight, keep, {gram, diagonal}, fit_scales, grid, codes, pool);
  }
  double h(int64_t i, int64_t j) const {
    return static_cast<double>(gram[static_cast<size_t>(i * columns + j)]) +
           (i == j ? static_cast<double>(diagonal[static_cast<size_t>(i)]) : 0.0);
  }
  float value(const WeightGrid& grid, int64_t row, int64_t column, int8_t code) const {
    const RunScale run = run_scale(grid, grid.scale_index(row, column));
    return run.scale * code_unit(grid.format, run.zero_point, code);
  }
  /// tr(E H Eᵀ), in double.
  double error(const WeightGrid& grid, const std::vector<int8_t>& codes) const {
    double sum = 0;
    std::vector<double> e(static_cast<size_t>(columns));
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t j = 0; j < columns; ++j) {
        const auto at = static_cast<size_t>(row * columns + j);
        e[static_cast<size_t>(j)] =
            static_cast<double>(weight[at]) - static_cast<double>(value(grid, row, j, codes[at]));
      }
      for (int64_t i = 0; i < columns; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          sum += e[static_cast<size_t>(i)] * h(i, j) * e[static_cast<size_t>(j)];
        }
      }
    }
    return sum;
  }
};

constexpr GridSpec kInt4{.format = WeightFormat::kInt4, .group_size = 32};

// A mask that leaves about two of three weights.
std::vector<uint8_t> some_kept(size_t size) {
  std::vector<uint8_t> keep(size);
  for (size_t i = 0; i < size; ++i) keep[i] = (i * 7 + i / 5) % 3 != 0 ? 1 : 0;
  return keep;
}

// One row, in double, every gradient from the start: four times over the columns, and after each
// 128 of them their groups' scales.
void plain_descent(const RoundedLayer& layer, const std::vector<uint8_t>& keep, WeightGrid& grid,
                   std::vector<int8_t>& codes, int64_t row) {
  const int64_t n = layer.columns;
  const auto at = [&](int64_t j) { return static_cast<size_t>(row * n + j); };
  const auto value = [&](int64_t j) {
    return static_cast<double>(layer.value(grid, row, j, codes[at(j)]));
  };
  const auto gradient = [&](int64_t j) {
    double sum = 0;
    for (int64_t k = 0; k < n; ++k) {
      sum += (static_cast<double>(layer.weight[at(k)]) - value(k)) * layer.h(k, j);
    }
    return sum;
  };
  for (int sweep = 0; sweep < 4; ++sweep) {
    for (int64_t first = 0; first < n; first += 128) {
      const int64_t end = std::min(n, first + 128);
      for (int64_t j = first; j < end; ++j) {
        if (!keep.empty() && keep[at(j)] == 0) continue;
        const double wanted = value(j) + gradient(j) / layer.h(j, j);
        const GridValue found = round_to_grid(grid, row, j, static_cast<float>(wanted));
        const double distance = std::abs(static_cast<double>(found.value) - wanted);
        if (distance < std::abs(value(j) - wanted) * (1 - 1e-6)) codes[at(j)] = found.code;
      }
      for (int64_t group = first; group < end; group += grid.group_size) {
        const int64_t group_end = std::min(end, group + grid.group_size);
        const size_t index = grid.scale_index(row, group);
        double slope = 0;
        double curvature = 0;
        for (int64_t j = group; j < group_end; ++j) {
          slope += value(j) * gradient(j);
          for (int64_t k = group; k < group_end; ++k)
            curvature += value(j) * layer.h(j, k) * value(k);
        }
        if (!(curvature > 0)) continue;
        const double factor = std::clamp(1 + slope / curvature, 1 / 1.25, 1.25);
        grid.scale[index] = static_cast<float>(static_cast<double>(grid.scale[index]) * factor);
      }
    }
  }
}

TEST(CoordinateDescent, EqualsThePlainLoop) {
  for (const bool symmetric : {true, false}) {
    // More columns than a block, and a last group that is shorter.
    RoundedLayer layer(21, 70, 150);
    GridSpec spec = kInt4;
    spec.symmetric = symmetric;
    for (const auto& keep : {std::vector<uint8_t>{}, some_kept(layer.weight.size())}) {
      const WeightGrid start = layer.grid(spec);
      const std::vector<int8_t> start_codes = layer.solve(start, keep);
      WeightGrid grid = start;
      std::vector<int8_t> codes = start_codes;
      layer.descend(grid, codes, keep);
      EXPECT_NE(codes, start_codes);
      WeightGrid plain_grid = start;
      std::vector<int8_t> plain = start_codes;
      // A near tie in float may go the other way in double, and the rest of that row with it.
      int64_t equal = 0;
      for (int64_t row = 0; row < layer.rows; ++row) {
        plain_descent(layer, keep, plain_grid, plain, row);
        const auto first = row * layer.columns;
        if (!std::equal(plain.begin() + first, plain.begin() + first + layer.columns,
                        codes.begin() + first)) {
          continue;
        }
        ++equal;
        for (int64_t j = 0; j < layer.columns; j += spec.group_size) {
          const size_t index = grid.scale_index(row, j);
          EXPECT_NEAR(grid.scale[index] / plain_grid.scale[index], 1.0F, 1e-4F);
        }
      }
      EXPECT_GE(equal, layer.rows - 4) << "symmetric " << symmetric;
    }
  }
}

TEST(CoordinateDescent, LosesLessThanGptqInEveryFormat) {
  struct Case {
    GridSpec spec;
    double at_most;  // of the error of GPTQ
  };
  const std::vector<Case> cases = {
      {kInt4, 0.95},
      {{.format = WeightFormat::kInt4, .group_size = 128}, 0.95},
      {{.format = WeightFormat::kInt4, .group_size = 64, .symmetric = false}, 0.95},
      {{.format = WeightFormat::kInt4, .group_size = kPerChannel}, 0.995},
      {{.format = WeightFormat::kInt8, .group_size = kPerChannel}, 0.995},
      {{.format = WeightFormat::kFp8E4m3, .group_size = kPerTensor}, 0.995},
      {{.format = WeightFormat::kFp8E4m3, .group_size = 128, .block_rows = 128}, 0.995},
      {{.format = WeightFormat::kNvfp4, .group_size = 16}, 0.995},
      {{.format = WeightFormat::kMxfp4, .group_size = 32}, 0.995}};
  for (const uint32_t seed : {1U, 2U}) {
    SCOPED_TRACE(test::seed_text(seed));
    RoundedLayer layer(seed, 64, 256);
    for (const Case& one : cases) {
      WeightGrid grid = layer.grid(one.spec);
      std::vector<int8_t> codes = layer.solve(grid);
      const double before = layer.error(grid, codes);
      layer.descend(grid, codes);
      EXPECT_LT(layer.error(grid, codes), one.at_most * before)
          << "format " << static_cast<int>(one.spec.format) << ", group " << one.spec.group_size;
    }
  }
}

TEST(CoordinateDescent, PrunedWeightsStayZeroAndZeroPointsStay) {
  RoundedLayer layer(3, 40, 200);
  const std::vector<uint8_t> keep = some_kept(layer.weight.size());
  for (const bool symmetric : {true, false}) {
    GridSpec spec = kInt4;
    spec.symmetric = symmetric;
    WeightGrid grid = layer.grid(spec);
    const std::vector<uint8_t> zero_point = grid.zero_point;
    std::vector<int8_t> codes = layer.solve(grid, keep);
    layer.descend(grid, codes, keep);
    EXPECT_EQ(grid.zero_point, zero_point);
    for (size_t i = 0; i < keep.size(); ++i) {
      const size_t index = grid.scale_index(static_cast<int64_t>(i) / layer.columns,
                                            static_cast<int64_t>(i) % layer.columns);
      if (keep[i] != 0) continue;
      ASSERT_EQ(codes[i], symmetric ? 0 : grid.zero_point[index]);
    }
    for (const float scale : grid.scale) ASSERT_TRUE(scale > 0 && std::isfinite(scale));
  }
}

TEST(CoordinateDescent, OnlyGroupsOfInt4GetOtherScales) {
  RoundedLayer layer(4, 64, 256);
  for (const GridSpec& spec : {GridSpec{.format = WeightFormat::kInt8, .group_size = kPerChannel},
                               GridSpec{.format = WeightFormat::kFp8E4m3, .group_size = kPerTensor},
                               GridSpec{.format = WeightFormat::kNvfp4, .group_size = 16},
                               GridSpec{.format = WeightFormat::kMxfp4, .group_size = 32},
                               GridSpec{.format = WeightFormat::kInt4, .group_size = kPerChannel},
                               GridSpec{.format = WeightFormat::kInt4, .group_size = 256}}) {
    WeightGrid grid = layer.grid(spec);
    const std::vector<float> scale = grid.scale;
    std::vector<int8_t> codes = layer.solve(grid);
    layer.descend(grid, codes);
    EXPECT_EQ(grid.scale, scale);
  }
}

TEST(CoordinateDescent, ScalesMoveOnlyWhereTheyMay) {
  RoundedLayer layer(8, 64, 256);
  const WeightGrid start = layer.grid(kInt4);
  const std::vector<int8_t> start_codes = layer.solve(start);
  WeightGrid fixed = start;
  std::vector<int8_t> fixed_codes = start_codes;
  layer.descend(fixed, fixed_codes, {}, false);
  EXPECT_EQ(fixed.scale, start.scale);
  WeightGrid fitted = start;
  std::vector<int8_t> codes = start_codes;
  layer.descend(fitted, codes);
  EXPECT_NE(fitted.scale, start.scale);
  EXPECT_LT(layer.error(fixed, fixed_codes), layer.error(start, start_codes));
  EXPECT_LT(layer.error(fitted, codes), layer.error(fixed, fixed_codes));
}

TEST(CoordinateDescent, RoundingIsBestWhereChannelsAreIndependent) {
  RoundedLayer layer(5, 32, 96);
  for (int64_t i = 0; i < layer.columns; ++i) {
    for (int64_t j = 0; j < layer.columns; ++j) {
      if (i != j) layer.gram[static_cast<size_t>(i * layer.columns + j)] = 0;
    }
  }
  WeightGrid grid = layer.grid({.format = WeightFormat::kInt8, .group_size = kPerChannel});
  std::vector<int8_t> codes(layer.weight.size(), 3);
  layer.descend(grid, codes);
  EXPECT_EQ(codes, encode(grid, layer.weight, layer.pool));
}

TEST(CoordinateDescent, ChannelsThatAreNeverActiveStayAsTheyAre) {
  RoundedLayer layer(6, 16, 64);
  for (int64_t i = 0; i < layer.columns; ++i) {
    layer.gram[static_cast<size_t>(5 * layer.columns + i)] = 0;
    layer.gram[static_cast<size_t>(i * layer.columns + 5)] = 0;
  }
  layer.diagonal.assign(layer.diagonal.size(), 0.0F);
  WeightGrid grid = layer.grid({.format = WeightFormat::kInt8, .group_size = kPerChannel});
  std::vector<int8_t> codes(layer.weight.size(), 3);
  layer.descend(grid, codes);
  for (int64_t row = 0; row < layer.rows; ++row) {
    EXPECT_EQ(codes[static_cast<size_t>(row * layer.columns + 5)], 3);
  }
}

TEST(CoordinateDescent, ThreadsDoNotChangeACode) {
  RoundedLayer layer(7, 200, 160);
  WeightGrid grid = layer.grid(kInt4);
  WeightGrid other = grid;
  std::vector<int8_t> codes = layer.solve(grid);
  std::vector<int8_t> other_codes = codes;
  layer.descend(grid, codes);
  ThreadPool one(1);
  descend_codes(layer.weight, {}, {layer.gram, layer.diagonal}, true, other, other_codes, one);
  EXPECT_EQ(codes, other_codes);
  EXPECT_EQ(grid.scale, other.scale);
}

TEST(CoordinateDescent, TheDiagonalIsNoiseAndDampingOfLiveChannels) {
  const std::vector<float> gram = {2, 1, 0, 1, 4, 0, 0, 0, 0};
  const std::vector<double> noise = {0.5, 0, 0.25};
  const std::vector<float> diagonal = descent_diagonal(gram, 3, noise, 0.1);
  EXPECT_EQ(diagonal, (std::vector<float>{0.8F, 0.3F, 0.55F}));
}

}  // namespace
}  // namespace pare
