// What the update is for: less output error than deciding each weight alone.
#include <gtest/gtest.h>

#include "quant/clip_search.h"
#include "quant/obs_solver.h"
#include "quant/output_error.h"
#include "quant/two_of_four.h"
#include "tests/quant/random_layer.h"

namespace pare {
namespace {

struct QualityLayer {
  static constexpr int64_t kRows = 64;
  static constexpr int64_t kColumns = 128;
  std::vector<float> weight;
  std::vector<double> gram;
  InverseFactor factor;
  ThreadPool pool{2};

  explicit QualityLayer(uint32_t seed) {
    const auto x = test::random_activations(seed, 512, kColumns, 6);
    gram = test::statistics_of(x, 512, kColumns).gram;
    weight = test::random_weight(seed + 50, kRows, kColumns);
    factor = factorize_inverse(gram, kColumns, 0.01, "layer");
  }
  double error(const std::vector<float>& changed) {
    return output_error(test::subtract(weight, changed), kRows, kColumns, mean_gram(gram, 512),
                        pool);
  }
  ObsSolution solve(bool choose_mask, const std::optional<WeightGrid>& grid, bool search) {
    const ObsProblem problem = {.out_features = kRows,
                                .in_features = kColumns,
                                .weight = weight,
                                .factor = &factor,
                                .choose_mask = choose_mask,
                                .keep = {},
                                .grid = grid,
                                .fit_group = {},
                                .search_group_scale = search};
    return solve_obs(problem, pool);
  }
  WeightGrid grid(const GridSpec& spec) const { return absmax_grid(weight, kRows, kColumns, spec); }
};

TEST(ObsQuality, BeatsMagnitudeAndRoundToNearest) {
  for (const uint32_t seed : {1U, 2U, 3U, 4U}) {
    SCOPED_TRACE(test::seed_text(seed));
    QualityLayer layer(seed);
    std::vector<float> magnitude = layer.weight;
    for (size_t i = 0; i < magnitude.size(); i += 4) {
      float score[4];
      uint8_t keep[4];
      for (size_t k = 0; k < 4; ++k) score[k] = std::abs(magnitude[i + k]);
      keep_two_of_four(score, keep);
      for (size_t k = 0; k < 4; ++k) magnitude[i + k] *= static_cast<float>(keep[k]);
    }
    const double pruned = layer.error(layer.solve(true, {}, false).weight);
    EXPECT_LT(pruned, 0.7 * layer.error(magnitude));

    for (const GridSpec& spec :
         {GridSpec{WeightFormat::kInt4, 32, true}, GridSpec{WeightFormat::kInt4, 32, false},
          GridSpec{WeightFormat::kInt8, kPerChannel, true}}) {
      const WeightGrid grid = layer.grid(spec);
      const double nearest = layer.error(round_trip(grid, layer.weight, layer.pool));
      const double rounded = layer.error(layer.solve(false, grid, false).weight);
      EXPECT_LT(rounded, nearest);
      if (spec.group_size > 0) {
        EXPECT_LT(layer.error(layer.solve(false, grid, true).weight), rounded);
      }
    }
  }
}

// Pruning decides the error; rounding to 4 bits on the way must add little to it.
TEST(ObsQuality, PruningAndRoundingTogetherIsCloseToPruningAlone) {
  QualityLayer layer(9);
  const double pruned = layer.error(layer.solve(true, {}, false).weight);
  const WeightGrid grid = layer.grid({WeightFormat::kInt4, 32, true});
  const double joint = layer.error(layer.solve(true, grid, true).weight);
  const ObsSolution first = layer.solve(true, {}, false);
  const WeightGrid after = absmax_grid(first.weight, QualityLayer::kRows, QualityLayer::kColumns,
                                       {WeightFormat::kInt4, 32, true});
  const double apart = layer.error(round_trip(after, first.weight, layer.pool));
  EXPECT_LT(joint, apart);
  EXPECT_LT(joint, 1.2 * pruned);
}

}  // namespace
}  // namespace pare
