// Two searches. A scale per group or channel: rows are independent, so a block of rows tries the
// same ratio at once, and the error is one small matrix product [rows, g] · [g, g]. A scale per
// tensor: one number, tried on all rows.
//
// With u the units (value = u × scale) and d = w − u × scale, the best scale for fixed u follows
// from ∂/∂scale Σ d H dᵀ = 0:  scale + (d H uᵀ) / (u H uᵀ).  Rounding again with it may move some
// u, so the result counts only if its own error is smaller.
#include "quant/clip_search.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string>

#include "pare/error.h"
#include "quant/blas.h"
#include "quant/grid_rounding.h"
#include "quant/row_blocks.h"
#include "quant/row_error.h"

namespace pare {
namespace {

constexpr float kRatioStep = 0.025F;
constexpr int kRatioSteps = 24;  // 1.0 … 0.4
constexpr int kBoundSteps = 12;  // each bound of an asymmetric range: steps of two
constexpr int kRefits = 3;

/// Up to this many columns a run is judged with its block of the Gram matrix, beyond with the
/// diagonal: the full block of a long row costs as much as all other searches together.
constexpr int64_t kFullGramColumns = 256;

ValueRange shrink(const ValueRange& range, float lower, float upper) {
  return {range.lowest * lower, range.highest * upper};
}

/// Rows [rows, columns] that share a block of the Gram matrix; one scale a row.
class BlockSearch {
 public:
  BlockSearch(const GridSpec& spec, std::vector<float> weight, int64_t rows, int64_t columns,
              const float* gram, int64_t gram_stride)
      : spec_(spec),
        weight_(std::move(weight)),
        rows_(rows),
        columns_(columns),
        gram_(gram),
        stride_(gram_stride),
        units_(weight_.size()),
        delta_(weight_.size()),
        errors_(static_cast<size_t>(rows)),
        best_error_(static_cast<size_t>(rows), std::numeric_limits<double>::infinity()),
        best_(static_cast<size_t>(rows)),
        refit_(static_cast<size_t>(rows)),
        candidate_(static_cast<size_t>(rows)) {
    row_errors(weight_, rows, columns, gram, gram_stride, weight_product_, errors_);
  }

  std::span<const RunScale> run() {
    std::vector<ValueRange> range(static_cast<size_t>(rows_));
    for (size_t row = 0; row < range.size(); ++row) range[row] = value_range(row_of(weight_, row));

    if (is_fp4(spec_.format)) {
      sweep_scales(range);
      return best_;
    }
    if (spec_.symmetric) {
      for (int step = 0; step <= kRatioSteps; ++step) {
        const float ratio = 1.0F - kRatioStep * static_cast<float>(step);
        for (size_t row = 0; row < range.size(); ++row) {
          candidate_[row] = scale_for_range(spec_.format, true, shrink(range[row], ratio, ratio));
        }
        try_candidates();
      }
    } else {
      search_bounds(range);
    }
    for (int round = 0; round < kRefits; ++round) {
      candidate_ = refit_;
      try_candidates();
    }
    return best_;
  }

 private:
  std::span<const float> row_of(const std::vector<float>& matrix, size_t row) const {
    const auto columns = static_cast<size_t>(columns_);
    return {matrix.data() + row * columns, columns};
  }

  /// The scales of FP4 are few: all that can be best. Rows with fewer of them try their last again.
  void sweep_scales(const std::vector<ValueRange>& range) {
    std::vector<std::vector<float>> scales(range.size());
    size_t most = 0;
    for (size_t row = 0; row < range.size(); ++row) {
      const float absmax = std::max(-range[row].lowest, range[row].highest);
      scales[row] = fp4_scales(spec_.format, spec_.global_scale, absmax);
      most = std::max(most, scales[row].size());
    }
    for (size_t i = 0; i < most; ++i) {
      for (size_t row = 0; row < range.size(); ++row) {
        candidate_[row].scale = scales[row][std::min(i, scales[row].size() - 1)];
      }
      try_candidates();
    }
  }

  /// Both bounds together, then the lower one, then the upper one.
  void search_bounds(const std::vector<ValueRange>& range) {
    std::vector<std::array<float, 2>> bounds(range.size(), {1.0F, 1.0F});
    for (int pass = 0; pass < 3; ++pass) {
      const std::vector<std::array<float, 2>> start = bounds;
      for (int step = 0; step <= kBoundSteps; ++step) {
        const float ratio = 1.0F - 2 * kRatioStep * static_cast<float>(step);
        const auto bounds_of = [&](size_t row) -> std::array<float, 2> {
          return {pass == 2 ? start[row][0] : ratio, pass == 1 ? start[row][1] : ratio};
        };
        for (size_t row = 0; row < range.size(); ++row) {
          const auto [lower, upper] = bounds_of(row);
          candidate_[row] = scale_for_range(spec_.format, false, shrink(range[row], lower, upper));
        }
        const std::vector<double> before = best_error_;
        try_candidates();
        for (size_t row = 0; row < range.size(); ++row) {
          if (best_error_[row] < before[row]) bounds[row] = bounds_of(row);
        }
      }
    }
  }

  /// Measures candidate_ and keeps, row by row, what is strictly better.
  void try_candidates() {
    for (size_t row = 0; row < candidate_.size(); ++row) {
      const size_t first = row * static_cast<size_t>(columns_);
      const std::span<float> units(units_.data() + first, static_cast<size_t>(columns_));
      round_units(spec_.format, spec_.symmetric, candidate_[row], row_of(weight_, row), units);
      const float scale = candidate_[row].scale;
      for (size_t i = 0; i < units.size(); ++i) {
        delta_[first + i] = weight_[first + i] - units[i] * scale;
      }
    }
    row_errors(delta_, rows_, columns_, gram_, stride_, delta_product_, errors_);
    for (size_t row = 0; row < candidate_.size(); ++row) {
      if (!(errors_[row] < best_error_[row])) continue;
      best_error_[row] = errors_[row];
      best_[row] = candidate_[row];
      refit_[row] = refit(row);
    }
  }

  /// The closed form for the units of the candidate just measured.
  RunScale refit(size_t row) const {
    const float* units = row_of(units_, row).data();
    const auto scale = static_cast<double>(candidate_[row].scale);
    const double numerator = dot(units, row_of(delta_product_, row).data(), columns_);
    // u H = (w H − d H) / scale saves a second matrix product.
    const double denominator =
        (dot(units, row_of(weight_product_, row).data(), columns_) - numerator) / scale;
    RunScale result = candidate_[row];
    const auto moved = static_cast<float>(scale + numerator / denominator);
    // Beyond half and double it is noise of a block without activations.
    if (moved > result.scale * 0.5F && moved < result.scale * 2.0F) result.scale = moved;
    return result;
  }

  GridSpec spec_;
  std::vector<float> weight_;
  int64_t rows_;
  int64_t columns_;
  const float* gram_;
  int64_t stride_;
  std::vector<float> units_;
  std::vector<float> delta_;
  std::vector<float> delta_product_;
  std::vector<float> weight_product_;
  std::vector<double> errors_;
  std::vector<double> best_error_;
  std::vector<RunScale> best_;
  std::vector<RunScale> refit_;
  std::vector<RunScale> candidate_;
};

struct TensorFit {
  double error = 0;
  double numerator = 0;    ///< Σ h d u
  double denominator = 0;  ///< Σ h u²
};

TensorFit measure_tensor(std::span<const float> weight, int64_t rows, std::span<const float> square,
                         const GridSpec& spec, const RunScale& candidate, ThreadPool& pool) {
  const size_t columns = square.size();
  std::vector<TensorFit> partial(static_cast<size_t>(row_block_count(rows)));
  for_row_blocks(rows, pool, [&](int64_t begin, int64_t end) {
    TensorFit& fit = partial[static_cast<size_t>(begin / kRowBlock)];
    std::vector<float> units(columns);
    for (int64_t row = begin; row < end; ++row) {
      const float* in = weight.data() + static_cast<size_t>(row) * columns;
      round_units(spec.format, spec.symmetric, candidate, {in, columns}, units);
      for (size_t i = 0; i < columns; ++i) {
        const auto unit = static_cast<double>(units[i]);
        const auto delta = static_cast<double>(in[i] - units[i] * candidate.scale);
        const double weighted = static_cast<double>(square[i]) * delta;
        fit.error += weighted * delta;
        fit.numerator += weighted * unit;
        fit.denominator += static_cast<double>(square[i]) * unit * unit;
      }
    }
  });
  TensorFit sum;
  for (const TensorFit& fit : partial) {
    sum.error += fit.error;
    sum.numerator += fit.numerator;
    sum.denominator += fit.denominator;
  }
  return sum;
}

float search_tensor(std::span<const float> weight, int64_t rows, std::span<const float> square,
                    const GridSpec& spec, ThreadPool& pool) {
  const ValueRange range = value_range(weight);
  RunScale best = scale_for_range(spec.format, spec.symmetric, range);
  TensorFit best_fit = measure_tensor(weight, rows, square, spec, best, pool);
  const auto try_candidate = [&](const RunScale& candidate) {
    const TensorFit fit = measure_tensor(weight, rows, square, spec, candidate, pool);
    if (!(fit.error < best_fit.error)) return;
    best = candidate;
    best_fit = fit;
  };
  for (int step = 1; step <= kRatioSteps; ++step) {
    const float ratio = 1.0F - kRatioStep * static_cast<float>(step);
    try_candidate(scale_for_range(spec.format, spec.symmetric, shrink(range, ratio, ratio)));
  }
  for (int round = 0; round < kRefits; ++round) {
    const auto moved = static_cast<float>(static_cast<double>(best.scale) +
                                          best_fit.numerator / best_fit.denominator);
    if (!(moved > best.scale * 0.5F && moved < best.scale * 2.0F)) break;
    try_candidate({moved, 0});
  }
  return best.scale;
}

std::vector<float> diagonal_of(std::span<const float> gram, int64_t columns) {
  const int64_t stride = gram_stride(gram, columns);
  std::vector<float> diagonal(static_cast<size_t>(columns));
  for (int64_t i = 0; i < columns; ++i) {
    diagonal[static_cast<size_t>(i)] = gram[static_cast<size_t>(i * stride + i)];
  }
  return diagonal;
}

/// Columns [first, first + count) of the rows, pruned ones zero.
std::vector<float> gather(std::span<const float> weight, std::span<const uint8_t> keep,
                          int64_t in_features, int64_t begin, int64_t end, int64_t first,
                          int64_t count) {
  std::vector<float> block;
  block.reserve(static_cast<size_t>((end - begin) * count));
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t column = first; column < first + count; ++column) {
      const auto index = static_cast<size_t>(row * in_features + column);
      block.push_back(keep.empty() || keep[index] != 0 ? weight[index] : 0.0F);
    }
  }
  return block;
}

}  // namespace

WeightGrid search_clip(std::span<const float> weight, int64_t out_features, int64_t in_features,
                       const GridSpec& spec, std::span<const float> gram,
                       std::span<const uint8_t> keep, ThreadPool& pool) {
  if (!keep.empty() && keep.size() != weight.size()) {
    throw Error(ErrorCode::kInternal, "clip search: mask has " + std::to_string(keep.size()) +
                                          " elements, expected " + std::to_string(weight.size()));
  }
  use_single_threaded_blas();
  // Checks the arguments, too; on kept weights the absmax of all is never too small.
  WeightGrid grid = absmax_grid(weight, out_features, in_features, spec);
  const std::vector<float> diagonal = diagonal_of(gram, in_features);
  if (spec.group_size == kPerTensor) {
    const std::vector<float> kept =
        gather(weight, keep, in_features, 0, out_features, 0, in_features);
    grid.scale[0] = search_tensor(kept, out_features, diagonal, spec, pool);
    return grid;
  }
  if (spec.block_rows > 1) return grid;  // Blocks of rows keep their absmax.
  const int64_t length = run_length(spec.group_size, in_features);
  const bool use_diagonal = length > kFullGramColumns || gram_stride(gram, in_features) == 0;
  for_row_blocks(out_features, pool, [&](int64_t begin, int64_t end) {
    for (int64_t first = 0; first < in_features; first += length) {
      const int64_t count = std::min(length, in_features - first);
      const float* block =
          use_diagonal ? diagonal.data() + first : gram.data() + first * in_features + first;
      BlockSearch search(spec, gather(weight, keep, in_features, begin, end, first, count),
                         end - begin, count, block, use_diagonal ? 0 : in_features);
      const std::span<const RunScale> found = search.run();
      for (int64_t row = begin; row < end; ++row) {
        const RunScale& run = found[static_cast<size_t>(row - begin)];
        set_run_scale(grid, grid.scale_index(row, first), run);
      }
    }
  });
  return grid;
}

}  // namespace pare
