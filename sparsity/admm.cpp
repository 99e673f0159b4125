#include "sparsity/admm.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "pare/error.h"
#include "quant/blas.h"
#include "quant/gram_diagonal.h"
#include "quant/row_blocks.h"
#include "quant/two_of_four.h"

namespace pare {
namespace {

// The Gram matrix with damping, rescaled to a unit diagonal.
struct Correlation {
  std::vector<float> root;    // [in] of the diagonal; 0 for channels that were never active
  std::vector<float> matrix;  // [in, in]
};

Correlation correlation_of(std::span<const float> gram, int64_t in_features, double damping) {
  const auto columns = static_cast<size_t>(in_features);
  const double added = damping * mean_live_diagonal(gram, in_features);
  Correlation result{std::vector<float>(columns, 0.0F), std::vector<float>(gram.size())};
  for (size_t i = 0; i < columns; ++i) {
    const auto diagonal = static_cast<double>(gram[i * (columns + 1)]);
    if (diagonal > 0) result.root[i] = static_cast<float>(std::sqrt(diagonal + added));
  }
  for (size_t i = 0; i < columns; ++i) {
    for (size_t j = 0; j < columns; ++j) {
      const float product = result.root[i] * result.root[j];
      result.matrix[i * columns + j] = i == j         ? 1.0F
                                       : product == 0 ? 0.0F
                                                      : gram[i * columns + j] / product;
    }
  }
  return result;
}

// (C + penalty × I)⁻¹, which exists: C is positive semidefinite.
std::vector<float> inverse_of(const std::vector<float>& correlation, int64_t n, double penalty) {
  std::vector<double> matrix(correlation.begin(), correlation.end());
  for (int64_t i = 0; i < n; ++i) matrix[static_cast<size_t>(i * (n + 1))] += penalty;
  if (!invert_symmetric(matrix, n)) {
    throw Error(ErrorCode::kNonFinite, "ADMM: the Gram matrix is not positive definite");
  }
  return {matrix.begin(), matrix.end()};
}

// A block of rows of one layer; all in channels of unit size.
struct Rows {
  int64_t rows;
  int64_t columns;
  std::span<const float> pull;  // w C
  std::span<float> pruned;      // D
  std::span<float> dual;        // U, the sum of what X and D disagreed about
  std::span<uint8_t> keep;
};

void choose(std::span<const float> values, std::span<uint8_t> keep) {
  float score[4];
  for (size_t i = 0; i < values.size(); i += 4) {
    for (size_t k = 0; k < 4; ++k) score[k] = std::abs(values[i + k]);
    keep_two_of_four(score, keep.data() + i);
  }
}

void iterate(const Rows& block, const std::vector<float>& inverse, float penalty) {
  std::vector<float> right(block.pull.size());
  std::vector<float> fitted(right.size());  // X
  for (size_t i = 0; i < right.size(); ++i) {
    right[i] = block.pull[i] + penalty * (block.pruned[i] - block.dual[i]);
  }
  sgemm({.m = block.rows,
         .n = block.columns,
         .k = block.columns,
         .lda = block.columns,
         .ldb = block.columns,
         .ldc = block.columns},
        right.data(), inverse.data(), fitted.data());
  for (size_t i = 0; i < fitted.size(); ++i) block.dual[i] += fitted[i];
  choose(block.dual, block.keep);
  for (size_t i = 0; i < fitted.size(); ++i) {
    block.pruned[i] = block.keep[i] != 0 ? block.dual[i] : 0.0F;
    block.dual[i] -= block.pruned[i];
  }
}

}  // namespace

PrunedWeight admm_prune(std::span<const float> weight, int64_t out_features, int64_t in_features,
                        std::span<const float> gram, const AdmmOptions& options, ThreadPool& pool) {
  const auto columns = static_cast<size_t>(in_features);
  if (in_features % 4 != 0) {
    throw Error(ErrorCode::kUsage,
                "2:4 sparsity needs a number of input channels divisible by 4, "
                "found " +
                    std::to_string(in_features) + "; exclude the layer");
  }
  if (in_features <= 0 || gram.size() != columns * columns ||
      weight.size() != static_cast<size_t>(out_features) * columns) {
    throw Error(ErrorCode::kInternal, "ADMM: sizes do not fit [" + std::to_string(out_features) +
                                          ", " + std::to_string(in_features) + "]");
  }
  use_single_threaded_blas();
  const Correlation correlation = correlation_of(gram, in_features, options.damping);
  PrunedWeight result{std::vector<float>(weight.begin(), weight.end()),
                      std::vector<uint8_t>(weight.size())};
  for (size_t i = 0; i < result.weight.size(); ++i) {
    result.weight[i] *= correlation.root[i % columns];
  }
  std::vector<float> pull(weight.size());
  std::vector<float> dual(weight.size(), 0.0F);
  const auto rows_of = [&](int64_t begin, int64_t end) {
    const size_t first = static_cast<size_t>(begin) * columns;
    const size_t size = static_cast<size_t>(end - begin) * columns;
    return Rows{end - begin,
                in_features,
                std::span<const float>(pull).subspan(first, size),
                std::span(result.weight).subspan(first, size),
                std::span(dual).subspan(first, size),
                std::span(result.keep).subspan(first, size)};
  };
  double penalty = options.penalty;
  std::vector<float> inverse = inverse_of(correlation.matrix, in_features, penalty);
  for_row_blocks(out_features, pool, [&](int64_t begin, int64_t end) {
    const Rows block = rows_of(begin, end);
    sgemm({.m = block.rows,
           .n = in_features,
           .k = in_features,
           .lda = in_features,
           .ldb = in_features,
           .ldc = in_features},
          block.pruned.data(), correlation.matrix.data(), pull.data() + begin * in_features);
    choose(block.pruned, block.keep);
    for (size_t i = 0; i < block.keep.size(); ++i) {
      if (block.keep[i] == 0) block.pruned[i] = 0;
    }
  });
  for (int stage = 0; stage < options.stages; ++stage) {
    const double next = penalty * options.growth;
    std::vector<float> next_inverse;
    // The next stage's inverse is made beside the rows: it runs on one thread.
    const auto blocks = static_cast<size_t>(row_block_count(out_features));
    const size_t inversions = stage + 1 < options.stages ? 1 : 0;
    pool.parallel_for(blocks + inversions, [&](size_t index, size_t) {
      if (index < inversions) {
        next_inverse = inverse_of(correlation.matrix, in_features, next);
        return;
      }
      const int64_t begin = static_cast<int64_t>(index - inversions) * kRowBlock;
      const Rows block = rows_of(begin, std::min(out_features, begin + kRowBlock));
      for (int i = 0; i < options.iterations; ++i) {
        iterate(block, inverse, static_cast<float>(penalty));
      }
      // The dual is in units of the penalty.
      for (float& value : block.dual) value /= static_cast<float>(options.growth);
    });
    penalty = next;
    inverse = std::move(next_inverse);
  }
  for (size_t i = 0; i < result.weight.size(); ++i) {
    // A dead channel counts for nothing; what is kept of it stays as it was.
    const float root = correlation.root[i % columns];
    result.weight[i] = root > 0 ? result.weight[i] / root : result.keep[i] != 0 ? weight[i] : 0.0F;
    if (!std::isfinite(result.weight[i])) {
      throw Error(ErrorCode::kNonFinite, "ADMM: NaN or infinity in the weights or the Gram matrix");
    }
  }
  return result;
}

}  // namespace pare
