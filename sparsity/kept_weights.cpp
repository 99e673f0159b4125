#include "sparsity/kept_weights.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "pare/error.h"
#include "quant/blas.h"
#include "quant/gram_diagonal.h"
#include "quant/row_blocks.h"
#include "quant/row_error.h"

namespace pare {
namespace {

/// One block of rows; each row is its own system, the products with the Gram matrix are shared.
class ConjugateGradients {
 public:
  ConjugateGradients(std::span<const float> gram, std::span<const uint8_t> keep, int64_t rows,
                     int64_t columns)
      : gram_(gram), keep_(keep), rows_(rows), columns_(columns), product_(keep.size()) {}

  /// Moves `solution` (zero where pruned) towards the minimum for `target`.
  void run(std::span<const float> target, std::span<float> solution, int iterations) {
    std::vector<float> residual(solution.size());
    for (size_t i = 0; i < residual.size(); ++i) residual[i] = target[i] - solution[i];
    multiply(residual);
    residual = product_;
    std::vector<float> conditioned = residual;
    precondition(conditioned);
    std::vector<float> direction = conditioned;
    std::vector<double> energy = row_dots(residual, conditioned);
    const std::vector<double> first = energy;
    for (int iteration = 0; iteration < iterations; ++iteration) {
      multiply(direction);
      const std::vector<double> curvature = row_dots(direction, product_);
      std::vector<float> step(energy.size());
      for (size_t row = 0; row < step.size(); ++row) {
        // A row that has arrived stays: going on would divide rounding by rounding.
        const bool moves = energy[row] > 1e-12 * first[row] && curvature[row] > 0;
        step[row] = moves ? static_cast<float>(energy[row] / curvature[row]) : 0.0F;
      }
      add_scaled(step, direction, 1.0F, solution);
      add_scaled(step, product_, -1.0F, residual);
      conditioned = residual;
      precondition(conditioned);
      const std::vector<double> next = row_dots(residual, conditioned);
      for (size_t row = 0; row < next.size(); ++row) {
        const float share =
            step[row] != 0 && energy[row] > 0 ? static_cast<float>(next[row] / energy[row]) : 0.0F;
        const size_t begin = row * static_cast<size_t>(columns_);
        for (size_t i = begin; i < begin + static_cast<size_t>(columns_); ++i) {
          direction[i] = conditioned[i] + share * direction[i];
        }
      }
      energy = next;
    }
  }

 private:
  /// product_ ← matrix · H on the kept positions.
  void multiply(const std::vector<float>& matrix) {
    sgemm({.m = rows_,
           .n = columns_,
           .k = columns_,
           .lda = columns_,
           .ldb = columns_,
           .ldc = columns_,
           .beta = 0},
          matrix.data(), gram_.data(), product_.data());
    for (size_t i = 0; i < product_.size(); ++i) {
      if (keep_[i] == 0) product_[i] = 0;
    }
  }

  void precondition(std::vector<float>& matrix) const {
    const auto columns = static_cast<size_t>(columns_);
    for (size_t i = 0; i < matrix.size(); ++i) matrix[i] /= gram_[i % columns * (columns + 1)];
  }

  std::vector<double> row_dots(const std::vector<float>& a, const std::vector<float>& b) const {
    std::vector<double> sums(static_cast<size_t>(rows_));
    for (int64_t row = 0; row < rows_; ++row) {
      sums[static_cast<size_t>(row)] =
          dot(a.data() + row * columns_, b.data() + row * columns_, columns_);
    }
    return sums;
  }

  void add_scaled(const std::vector<float>& factor, const std::vector<float>& matrix, float sign,
                  std::span<float> out) const {
    const auto columns = static_cast<size_t>(columns_);
    for (size_t row = 0; row < factor.size(); ++row) {
      const float scale = sign * factor[row];
      for (size_t i = row * columns; i < (row + 1) * columns; ++i) out[i] += scale * matrix[i];
    }
  }

  std::span<const float> gram_;
  std::span<const uint8_t> keep_;
  int64_t rows_;
  int64_t columns_;
  std::vector<float> product_;
};

/// The Gram matrix with the damping, and a unit diagonal for channels that were never active.
std::vector<float> damped(std::span<const float> gram, int64_t in_features, double damping) {
  const auto columns = static_cast<size_t>(in_features);
  std::vector<float> matrix(gram.begin(), gram.end());
  const double mean = mean_live_diagonal(gram, in_features);
  for (size_t i = 0; i < columns; ++i) {
    float& diagonal = matrix[i * (columns + 1)];
    diagonal =
        diagonal > 0 ? static_cast<float>(static_cast<double>(diagonal) + damping * mean) : 1.0F;
  }
  return matrix;
}

}  // namespace

std::vector<float> solve_kept_weights(std::span<const float> target, std::span<const float> start,
                                      std::span<const uint8_t> keep, int64_t out_features,
                                      int64_t in_features, std::span<const float> gram,
                                      const KeptWeightsOptions& options, ThreadPool& pool) {
  const auto count = static_cast<size_t>(out_features) * static_cast<size_t>(in_features);
  const auto columns = static_cast<size_t>(in_features);
  if (in_features <= 0 || target.size() != count || start.size() != count || keep.size() != count ||
      gram.size() != columns * columns) {
    throw Error(ErrorCode::kInternal, "kept weights: sizes do not fit [" +
                                          std::to_string(out_features) + ", " +
                                          std::to_string(in_features) + "]");
  }
  const std::vector<float> matrix = damped(gram, in_features, options.damping);
  std::vector<float> solution(start.begin(), start.end());
  for (size_t i = 0; i < count; ++i) {
    if (keep[i] == 0) solution[i] = 0;
  }
  use_single_threaded_blas();
  for_row_blocks(out_features, pool, [&](int64_t begin, int64_t end) {
    const auto first = static_cast<size_t>(begin) * columns;
    const size_t size = static_cast<size_t>(end - begin) * columns;
    ConjugateGradients solver(matrix, keep.subspan(first, size), end - begin, in_features);
    solver.run(target.subspan(first, size), std::span(solution).subspan(first, size),
               options.iterations);
  });
  const auto finite = [](float value) { return std::isfinite(value); };
  if (!std::all_of(solution.begin(), solution.end(), finite)) {
    throw Error(ErrorCode::kNonFinite,
                "kept weights: NaN or infinity in the weights or the Gram matrix");
  }
  return solution;
}

}  // namespace pare
