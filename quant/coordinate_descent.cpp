// Rows are independent. Blocks of rows go over the columns in blocks, too: one matrix product gives
// E H for the columns of a block, and within it each change is followed at once.
#include "quant/coordinate_descent.h"

#include <algorithm>
#include <cmath>

#include "kernels/sgemm.h"
#include "quant/gram_diagonal.h"
#include "quant/grid_rounding.h"
#include "quant/row_blocks.h"
#include "quant/unit_rounding.h"

namespace pare {
namespace {

constexpr int kSweeps = 4;
constexpr int64_t kColumns = 128;
constexpr float kMostScaling = 1.25F;  // of a scale, up or down, in one fit

bool has_scales_to_fit(const WeightGrid& grid) {
  return grid.format == WeightFormat::kInt4 && grid.group_size > 0 && grid.block_rows == 1 &&
         kColumns % grid.group_size == 0;
}

// Some rows of a weight.
class Descent {
 public:
  Descent(const DescentNorm& norm, std::span<const uint8_t> keep, bool fit_scales, WeightGrid& grid,
          int64_t begin, int64_t end)
      : norm_(norm),
        keep_(keep),
        fit_scales_(fit_scales),
        grid_(grid),
        begin_(begin),
        rows_(end - begin),
        columns_(grid.in_features),
        units_(static_cast<size_t>(rows_ * columns_)),
        error_(units_.size()),
        gradient_(static_cast<size_t>(rows_ * kColumns)) {}

  void run(std::span<const float> weight, std::span<int8_t> codes) {
    for_each_weight([&](size_t i, const RunScale& run) {
      units_[i] = code_unit(grid_.format, run.zero_point, codes[i]);
      error_[i] = weight[i] - units_[i] * run.scale;
    });
    for (int sweep = 0; sweep < kSweeps; ++sweep) {
      for (int64_t first = 0; first < columns_; first += kColumns) decide(first);
    }
    for_each_weight([&](size_t i, const RunScale& run) {
      codes[i] = unit_code(grid_.format, run.zero_point, units_[i]);
    });
  }

 private:
  // Columns [first, first + width) of one row.
  struct Block {
    int64_t row = 0;
    int64_t first = 0;
    int64_t width = 0;
    float* gradient = nullptr;  // (E H) of these columns
  };

  RunScale scale_of(int64_t row, int64_t column) const {
    return run_scale(grid_, grid_.scale_index(begin_ + row, column));
  }
  template <typename Visit>
  void for_each_weight(Visit visit) const {
    size_t i = 0;
    for (int64_t row = 0; row < rows_; ++row) {
      for (int64_t column = 0; column < columns_; ++column) visit(i++, scale_of(row, column));
    }
  }
  size_t index_of(const Block& block, int64_t j) const {
    return static_cast<size_t>(block.row * columns_ + block.first + j);
  }

  void decide(int64_t first) {
    const int64_t width = std::min(kColumns, columns_ - first);
    const SgemmShape shape{
        .m = rows_, .n = width, .k = columns_, .lda = columns_, .ldb = columns_, .ldc = kColumns};
    sgemm(shape, error_.data(), norm_.gram.data() + first, gradient_.data());
    for (int64_t row = 0; row < rows_; ++row) {
      const Block block{row, first, width, gradient_.data() + row * kColumns};
      for (int64_t j = 0; j < width; ++j) {
        block.gradient[j] += error_[index_of(block, j)] * diagonal(block, j);
      }
      move_codes(block);
      if (!fit_scales_) continue;
      for (int64_t group = 0; group < width; group += grid_.group_size) fit_scale(block, group);
    }
  }

  float diagonal(const Block& block, int64_t j) const {
    return norm_.diagonal[static_cast<size_t>(block.first + j)];
  }
  // The columns of the block in row j of the block of the Gram matrix.
  const float* gram_row(const Block& block, int64_t j) const {
    return norm_.gram.data() + (block.first + j) * columns_ + block.first;
  }

  void move_codes(const Block& block) {
    const UnitKind kind = unit_kind(grid_.format);
    for (int64_t j = 0; j < block.width; ++j) {
      const size_t i = index_of(block, j);
      const float* gram = gram_row(block, j);
      const float h = gram[j] + diagonal(block, j);
      if (!(h > 0) || (!keep_.empty() && keep_[i] == 0)) continue;
      const RunScale run = scale_of(block.row, block.first + j);
      const UnitBounds bounds = unit_bounds(grid_.format, grid_.symmetric, run.zero_point);
      const float wanted = units_[i] + block.gradient[j] / h / run.scale;
      const float unit = round_unit(kind, wanted, bounds);
      // A tie would move to and fro.
      if (!(std::abs(wanted - unit) < std::abs(wanted - units_[i]))) continue;
      const float step = (unit - units_[i]) * run.scale;
      units_[i] = unit;
      error_[i] -= step;
      for (int64_t k = 0; k < block.width; ++k) block.gradient[k] -= step * gram[k];
      block.gradient[j] -= step * diagonal(block, j);
    }
  }

  void fit_scale(const Block& block, int64_t group) {
    const int64_t end = std::min(group + grid_.group_size, block.width);
    const size_t index = grid_.scale_index(begin_ + block.row, block.first + group);
    float product[kColumns] = {};  // of the group's units with H
    double slope = 0;
    for (int64_t j = group; j < end; ++j) {
      const float unit = units_[index_of(block, j)];
      if (unit == 0) continue;
      slope += static_cast<double>(unit) * static_cast<double>(block.gradient[j]);
      const float* gram = gram_row(block, j);
      for (int64_t k = 0; k < block.width; ++k) product[k] += unit * gram[k];
      product[j] += unit * diagonal(block, j);
    }
    double curvature = 0;
    for (int64_t j = group; j < end; ++j) {
      const float unit = units_[index_of(block, j)];
      curvature += static_cast<double>(unit) * static_cast<double>(product[j]);
    }
    if (!(curvature > 0)) return;
    const float scale = grid_.scale[index];
    const float wanted = scale + static_cast<float>(slope / curvature);
    const float fitted = std::clamp(wanted, scale / kMostScaling, scale * kMostScaling);
    if (!std::isnormal(fitted)) return;
    const float step = fitted - scale;
    grid_.scale[index] = fitted;
    for (int64_t j = group; j < end; ++j) {
      const size_t i = index_of(block, j);
      error_[i] -= step * units_[i];
    }
    for (int64_t k = 0; k < block.width; ++k) block.gradient[k] -= step * product[k];
  }

  DescentNorm norm_;
  std::span<const uint8_t> keep_;  // of these rows
  bool fit_scales_;
  WeightGrid& grid_;
  int64_t begin_;
  int64_t rows_;
  int64_t columns_;
  std::vector<float> units_;     // value = unit × scale
  std::vector<float> error_;     // E
  std::vector<float> gradient_;  // [rows, kColumns]
};

}  // namespace

std::vector<float> descent_diagonal(std::span<const float> gram, int64_t in_features,
                                    std::span<const double> noise, double damping) {
  const auto damped = static_cast<float>(damping * mean_live_diagonal(gram, in_features));
  std::vector<float> diagonal(static_cast<size_t>(in_features), damped);
  for (size_t i = 0; i < noise.size(); ++i) diagonal[i] += static_cast<float>(noise[i]);
  return diagonal;
}

void descend_codes(std::span<const float> weight, std::span<const uint8_t> keep,
                   const DescentNorm& norm, bool fit_scales, WeightGrid& grid,
                   std::span<int8_t> codes, ThreadPool& pool) {
  use_single_threaded_blas();
  const bool fits = fit_scales && has_scales_to_fit(grid);
  for_row_blocks(grid.out_features, pool, [&](int64_t begin, int64_t end) {
    const auto first = static_cast<size_t>(begin * grid.in_features);
    const auto count = static_cast<size_t>((end - begin) * grid.in_features);
    Descent(norm, keep.empty() ? keep : keep.subspan(first, count), fits, grid, begin, end)
        .run(weight.subspan(first, count), codes.subspan(first, count));
  });
}

}  // namespace pare
