#include "sparsity/sparsegpt.h"

#include <utility>

namespace pare {
namespace {

ObsProblem pruning_problem(std::span<const float> weight, int64_t out_features, int64_t in_features,
                           const InverseFactor& factor) {
  ObsProblem problem;
  problem.out_features = out_features;
  problem.in_features = in_features;
  problem.weight = weight;
  problem.factor = &factor;
  return problem;
}

}  // namespace

SparseGptResult sparsegpt(std::span<const float> weight, int64_t out_features, int64_t in_features,
                          const InverseFactor& factor, ThreadPool& pool) {
  ObsProblem problem = pruning_problem(weight, out_features, in_features, factor);
  problem.choose_mask = true;
  ObsSolution solution = solve_obs(problem, pool);
  return {std::move(solution.weight), std::move(solution.keep)};
}

ObsSolution sparsegpt_quantized(std::span<const float> weight, int64_t out_features,
                                int64_t in_features, const InverseFactor& factor, WeightGrid grid,
                                ThreadPool& pool) {
  ObsProblem problem = pruning_problem(weight, out_features, in_features, factor);
  problem.choose_mask = true;
  problem.grid = std::move(grid);
  return solve_obs(problem, pool);
}

std::vector<float> update_kept_weights(std::span<const float> weight, int64_t out_features,
                                       int64_t in_features, std::span<const uint8_t> keep,
                                       const InverseFactor& factor, ThreadPool& pool) {
  ObsProblem problem = pruning_problem(weight, out_features, in_features, factor);
  problem.keep = keep;
  return solve_obs(problem, pool).weight;
}

}  // namespace pare
