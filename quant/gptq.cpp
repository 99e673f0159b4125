#include "quant/gptq.h"

#include <algorithm>
#include <numeric>

#include "pare/error.h"

namespace pare {
namespace {

// Column j of the result is column order[j] of the matrix.
template <typename Element>
std::vector<Element> in_order(std::span<const Element> matrix, const std::vector<int32_t>& order) {
  const size_t columns = order.size();
  std::vector<Element> result(matrix.size());
  for (size_t row = 0; row < matrix.size(); row += columns) {
    for (size_t j = 0; j < columns; ++j) {
      result[row + j] = matrix[row + static_cast<size_t>(order[j])];
    }
  }
  return result;
}

}  // namespace

OrderedFactor factorize_by_activation(std::span<const double> gram, int64_t in_features,
                                      double damping, const std::string& name,
                                      std::span<const double> noise) {
  const auto columns = static_cast<size_t>(in_features);
  if (gram.size() != columns * columns) {
    throw Error(ErrorCode::kInternal, name + ": the Gram matrix does not fit the layer");
  }
  OrderedFactor result;
  result.order.resize(columns);
  std::iota(result.order.begin(), result.order.end(), 0);
  const auto noise_of = [&](int32_t column) {
    return noise.empty() ? 0.0 : noise[static_cast<size_t>(column)];
  };
  const auto energy = [&](int32_t column) {
    return gram[static_cast<size_t>(column) * (columns + 1)] + noise_of(column);
  };
  std::stable_sort(result.order.begin(), result.order.end(),
                   [&](int32_t a, int32_t b) { return energy(a) > energy(b); });
  std::vector<double> ordered(gram.size());
  for (size_t i = 0; i < columns; ++i) {
    const double* row = gram.data() + static_cast<size_t>(result.order[i]) * columns;
    for (size_t j = 0; j < columns; ++j) {
      ordered[i * columns + j] = row[static_cast<size_t>(result.order[j])];
    }
    ordered[i * (columns + 1)] += noise_of(result.order[i]);
  }
  result.factor = factorize_inverse(ordered, in_features, damping, name);
  return result;
}

std::vector<int8_t> gptq_codes(std::span<const float> weight, std::span<const uint8_t> keep,
                               const WeightGrid& grid, const OrderedFactor& factor,
                               ThreadPool& pool) {
  const std::vector<float> ordered = in_order(weight, factor.order);
  const std::vector<uint8_t> ordered_keep = in_order(keep, factor.order);
  ObsProblem problem;
  problem.out_features = grid.out_features;
  problem.in_features = grid.in_features;
  problem.weight = ordered;
  problem.keep = ordered_keep;
  problem.factor = &factor.factor;
  problem.grid = grid;
  problem.order = factor.order;
  const std::vector<int8_t> found = solve_obs(problem, pool).codes;
  std::vector<int8_t> codes(found.size());
  const size_t columns = factor.order.size();
  for (size_t row = 0; row < codes.size(); row += columns) {
    for (size_t j = 0; j < columns; ++j) {
      codes[row + static_cast<size_t>(factor.order[j])] = found[row + j];
    }
  }
  return codes;
}

}  // namespace pare
