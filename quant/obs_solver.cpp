// Notation of the papers: U is the upper Cholesky factor of H⁻¹. Deciding column j of a row leaves
// the error e = (w_j − q_j) / U_jj, the columns to its right move by −e U_j,:, and the row's output
// error grows by exactly e².
//
// Columns go in blocks of about 128: inside a block each row is updated at once (vectors in the
// first-level cache), the columns behind it once a block with one matrix product for 64 rows.
#include "quant/obs_solver.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>

#include "pare/error.h"
#include "quant/blas.h"
#include "quant/grid_rounding.h"
#include "quant/row_blocks.h"
#include "quant/two_of_four.h"
#include "quant/unit_rounding.h"

namespace pare {
namespace {

constexpr int64_t kColumnBlock = 128;
constexpr float kRatioStep = 0.05F;
constexpr int kRatioSteps = 10;  // 1.0 … 0.5

/// Columns of one row that go through the loop without another decision between them.
struct Segment {
  float* weight;       ///< The segment's first weight; columns up to `reach` move.
  const float* upper;  ///< U at the segment's first diagonal element.
  int64_t upper_stride;
  int64_t count;        ///< Columns to decide.
  int64_t reach;        ///< Columns to update, ≥ count.
  const uint8_t* keep;  ///< Or null: all.
  const RunScale* run;  ///< Or null: no rounding.
  WeightFormat format;
  bool symmetric;
  int8_t* codes;  ///< Or null.
  float* errors;  ///< e of each column.
};

/// Decides the columns of the segment; returns Σ e².
double decide(const Segment& segment) {
  UnitBounds bounds;
  float inverse = 0;
  const UnitKind kind = unit_kind(segment.format);
  if (segment.run != nullptr) {
    bounds = unit_bounds(segment.format, segment.symmetric, segment.run->zero_point);
    inverse = 1.0F / segment.run->scale;
  }
  double sum = 0;
  for (int64_t i = 0; i < segment.count; ++i) {
    const float weight = segment.weight[i];
    const bool kept = segment.keep == nullptr || segment.keep[i] != 0;
    float value = kept ? weight : 0.0F;
    if (segment.run != nullptr) {
      const float scaled = value * inverse;
      const float unit = round_unit(kind, scaled, bounds);
      value = unit * segment.run->scale;
      if (segment.codes != nullptr) {
        segment.codes[i] = unit_code(segment.format, segment.run->zero_point, unit);
      }
    }
    const float* upper = segment.upper + i * segment.upper_stride;
    const float error = (weight - value) / upper[i];
    segment.errors[i] = error;
    segment.weight[i] = value;
    sum += static_cast<double>(error) * static_cast<double>(error);
    if (error == 0) continue;
    float* rest = segment.weight;
    for (int64_t j = i + 1; j < segment.reach; ++j) rest[j] -= error * upper[j];
  }
  return sum;
}

/// Whether scales are fitted when their group is reached: blocks of several rows are given.
bool fits_groups(const std::optional<WeightGrid>& grid) {
  return grid && grid->group_size > 0 && grid->block_rows == 1;
}

/// One block of rows on its way through the columns.
class RowBlock {
 public:
  RowBlock(const ObsProblem& problem, ObsSolution& solution, int64_t begin, int64_t end)
      : problem_(problem), solution_(solution), begin_(begin), end_(end) {}

  void run(int64_t block_columns) {
    const int64_t columns = problem_.in_features;
    std::vector<float> errors(static_cast<size_t>((end_ - begin_) * block_columns));
    for (int64_t first = 0; first < columns; first += block_columns) {
      const int64_t count = std::min(block_columns, columns - first);
      for (int64_t row = begin_; row < end_; ++row) {
        run_row(row, first, first + count, errors.data() + (row - begin_) * block_columns);
      }
      const int64_t next = first + count;
      if (next == columns) break;
      sgemm({.m = end_ - begin_,
             .n = columns - next,
             .k = count,
             .lda = block_columns,
             .ldb = columns,
             .ldc = columns,
             .alpha = -1,
             .beta = 1},
            errors.data(), problem_.factor->upper.data() + first * columns + next,
            solution_.weight.data() + begin_ * columns + next);
    }
  }

 private:
  float* weight_at(int64_t row, int64_t column) {
    return solution_.weight.data() + row * problem_.in_features + column;
  }
  uint8_t* keep_at(int64_t row, int64_t column) {
    if (solution_.keep.empty()) return nullptr;
    return solution_.keep.data() + row * problem_.in_features + column;
  }
  const float* upper_at(int64_t column) const {
    return problem_.factor->upper.data() + column * (problem_.in_features + 1);
  }

  // Each column has the scale of a group of its own.
  void run_row_in_order(int64_t row, int64_t first, int64_t end, float* errors) {
    const WeightGrid& grid = *solution_.grid;
    for (int64_t column = first; column < end; ++column) {
      const int64_t place = problem_.order[static_cast<size_t>(column)];
      const RunScale run = run_scale(grid, grid.scale_index(row, place));
      Segment segment = segment_at(row, column, 1, end - column);
      segment.run = &run;
      segment.errors = errors + (column - first);
      decide(segment);
    }
  }

  void run_row(int64_t row, int64_t first, int64_t end, float* errors) {
    if (!problem_.order.empty()) return run_row_in_order(row, first, end, errors);
    const bool grouped = fits_groups(solution_.grid);
    const int64_t group_size = grouped ? solution_.grid->group_size : end - first;
    // Decisions fall on every fourth column (mask) and on every group (scale).
    const int64_t step = problem_.choose_mask ? 4 : group_size;
    RunScale run;
    for (int64_t column = first; column < end; column += step) {
      const int64_t count = std::min(step, end - column);
      if (problem_.choose_mask) choose_four(weight_at(row, column), column, keep_at(row, column));
      if (grouped && column % group_size == 0) fit(row, column, end);
      if (solution_.grid) {
        run = run_scale(*solution_.grid, solution_.grid->scale_index(row, column));
      }
      Segment segment = segment_at(row, column, count, end - column);
      segment.run = solution_.grid ? &run : nullptr;
      segment.errors = errors + (column - first);
      decide(segment);
    }
  }

  Segment segment_at(int64_t row, int64_t column, int64_t count, int64_t reach) {
    Segment segment = {};
    segment.weight = weight_at(row, column);
    segment.upper = upper_at(column);
    segment.upper_stride = problem_.in_features;
    segment.count = count;
    segment.reach = reach;
    segment.keep = keep_at(row, column);
    segment.format = solution_.grid ? solution_.grid->format : WeightFormat::kBf16;
    segment.symmetric = !solution_.grid || solution_.grid->symmetric;
    if (!solution_.codes.empty()) {
      segment.codes = solution_.codes.data() + row * problem_.in_features + column;
    }
    return segment;
  }

  /// The rule of SparseGPT: w² / U_jj² is what removing column j costs. Comparing the exact cost of
  /// all six pairs instead was measured to lower a real model's output error by 0.2 % only.
  void choose_four(const float* weight, int64_t column, uint8_t* keep) const {
    float score[4];
    for (int64_t i = 0; i < 4; ++i) {
      const float diagonal = *upper_at(column + i);
      const bool dead = problem_.factor->dead[static_cast<size_t>(column + i)] != 0;
      // Below any live channel; among dead ones the larger weight stays.
      score[i] =
          dead ? -1.0F / (weight[i] * weight[i]) : (weight[i] * weight[i]) / (diagonal * diagonal);
    }
    keep_two_of_four(score, keep);
  }

  /// Fits the scale of the group that starts at `column`. Its mask is not known yet when the mask
  /// is chosen on the way, because later choices see updated weights; the choice that would fall
  /// now is a good estimate, and leaves the large pruned weights out of the range.
  void fit(int64_t row, int64_t column, int64_t block_end) {
    WeightGrid& grid = *solution_.grid;
    const int64_t count = std::min(grid.group_size, block_end - column);
    const int64_t group = column / grid.group_size;
    const float* weight = weight_at(row, column);
    uint8_t* keep = keep_at(row, column);
    if (problem_.choose_mask) {
      for (int64_t i = 0; i < count; i += 4) choose_four(weight + i, column + i, keep + i);
    }
    group_weight_.assign(weight, weight + count);
    if (keep != nullptr) {
      for (int64_t i = 0; i < count; ++i) {
        if (keep[i] == 0) group_weight_[static_cast<size_t>(i)] = 0;
      }
    }
    if (problem_.fit_group) {
      const auto flags = keep == nullptr
                             ? std::span<const uint8_t>()
                             : std::span<const uint8_t>(keep, static_cast<size_t>(count));
      problem_.fit_group(grid, row, group, group_weight_, flags);
    } else {
      fit_group_absmax(grid, row, group, group_weight_);
    }
    if (problem_.search_group_scale) search_scale(row, column, count);
  }

  void search_scale(int64_t row, int64_t column, int64_t count) {
    WeightGrid& grid = *solution_.grid;
    const size_t index = grid.scale_index(row, column);
    const RunScale fitted = run_scale(grid, index);
    const ValueRange range = value_range(group_weight_);
    errors_.resize(static_cast<size_t>(count));
    RunScale best = fitted;
    double best_error = std::numeric_limits<double>::infinity();
    for (int trial = -1; trial <= kRatioSteps; ++trial) {
      const float ratio = 1.0F - kRatioStep * static_cast<float>(trial);
      const RunScale run =
          trial < 0 ? fitted : fit_range(grid, {range.lowest * ratio, range.highest * ratio});
      trial_weight_.assign(weight_at(row, column), weight_at(row, column) + count);
      Segment segment = segment_at(row, column, count, count);
      segment.weight = trial_weight_.data();
      segment.run = &run;
      segment.codes = nullptr;
      segment.errors = errors_.data();
      const double error = decide(segment);
      if (error < best_error) {
        best_error = error;
        best = run;
      }
    }
    set_run_scale(grid, index, best);
  }

  const ObsProblem& problem_;
  ObsSolution& solution_;
  int64_t begin_;
  int64_t end_;
  std::vector<float> group_weight_;
  std::vector<float> trial_weight_;
  std::vector<float> errors_;
};

void check_problem(const ObsProblem& problem) {
  const auto fail = [](ErrorCode code, const std::string& what) { throw Error(code, what); };
  if (problem.factor == nullptr || problem.factor->in_features != problem.in_features ||
      problem.in_features <= 0 || problem.out_features < 0) {
    fail(ErrorCode::kInternal, "OBS: no factor for these input channels");
  }
  const auto count =
      static_cast<size_t>(problem.out_features) * static_cast<size_t>(problem.in_features);
  if (problem.weight.size() != count || (!problem.keep.empty() && problem.keep.size() != count)) {
    fail(ErrorCode::kInternal,
         "OBS: weight or mask does not have " + std::to_string(count) + " elements");
  }
  if (!problem.order.empty() &&
      (!problem.grid || problem.choose_mask ||
       problem.order.size() != static_cast<size_t>(problem.in_features))) {
    fail(ErrorCode::kInternal, "OBS: an order of columns needs a grid, and a mask that is given");
  }
  if (problem.choose_mask && !problem.keep.empty()) {
    fail(ErrorCode::kInternal, "OBS: a mask is given and is to be chosen");
  }
  if (problem.choose_mask && problem.in_features % 4 != 0) {
    fail(ErrorCode::kUsage, "2:4 sparsity needs a number of input channels divisible by 4, found " +
                                std::to_string(problem.in_features) + "; exclude the layer");
  }
  if (problem.grid && (problem.grid->in_features != problem.in_features ||
                       problem.grid->out_features != problem.out_features)) {
    fail(ErrorCode::kInternal, "OBS: the grid has another shape than the weight");
  }
  if (problem.grid && problem.choose_mask && problem.grid->group_size % 4 > 0) {
    fail(ErrorCode::kUsage, "2:4 sparsity needs a group size divisible by 4, found " +
                                std::to_string(problem.grid->group_size));
  }
  value_range(problem.weight);  // for its test of finiteness
}

/// About kColumnBlock columns that split neither four columns of a mask nor a group.
int64_t column_block(const ObsProblem& problem) {
  const bool grouped = problem.order.empty() && fits_groups(problem.grid);
  const int64_t group = grouped ? problem.grid->group_size : 1;
  const int64_t unit = problem.choose_mask ? std::lcm(group, int64_t{4}) : group;
  const int64_t block = unit * std::max<int64_t>(1, kColumnBlock / unit);
  return std::min(block, problem.in_features);
}

}  // namespace

ObsSolution solve_obs(const ObsProblem& problem, ThreadPool& pool) {
  check_problem(problem);
  use_single_threaded_blas();
  ObsSolution solution;
  solution.weight.assign(problem.weight.begin(), problem.weight.end());
  solution.keep.assign(problem.keep.begin(), problem.keep.end());
  if (problem.choose_mask) solution.keep.assign(problem.weight.size(), 0);
  solution.grid = problem.grid;
  if (problem.grid) solution.codes.assign(problem.weight.size(), 0);
  const int64_t block_columns = column_block(problem);
  for_row_blocks(problem.out_features, pool, [&](int64_t begin, int64_t end) {
    RowBlock(problem, solution, begin, end).run(block_columns);
  });
  return solution;
}

}  // namespace pare
