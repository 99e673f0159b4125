#include "quant/weight_grid.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/dtype.h"
#include "pare/error.h"
#include "quant/grid_rounding.h"
#include "quant/row_blocks.h"
#include "quant/unit_rounding.h"

namespace pare {
namespace {

void check_grid_shape(std::span<const float> weight, int64_t out_features, int64_t in_features,
                      const GridSpec& spec) {
  if (spec.format == WeightFormat::kBf16) {
    throw Error(ErrorCode::kInternal, "weight grid: bf16 has no grid");
  }
  if (!spec.symmetric && spec.format != WeightFormat::kInt4) {
    throw Error(ErrorCode::kUsage, "zero points are defined for int4 only");
  }
  if (!spec.symmetric && spec.group_size == kPerTensor) {
    throw Error(ErrorCode::kUsage, "zero points need a scale per channel or per group");
  }
  if (!spec.symmetric && spec.block_rows != 1) {
    throw Error(ErrorCode::kUsage, "zero points need groups of one row");
  }
  if (spec.group_size < kPerTensor || spec.block_rows < 1 ||
      (spec.block_rows > 1 && spec.group_size <= 0) || out_features < 0 || in_features <= 0 ||
      weight.size() != static_cast<size_t>(out_features) * static_cast<size_t>(in_features)) {
    throw Error(ErrorCode::kInternal, "weight grid: shape [" + std::to_string(out_features) + ", " +
                                          std::to_string(in_features) + "] with group size " +
                                          std::to_string(spec.group_size) + " does not fit " +
                                          std::to_string(weight.size()) + " weights");
  }
}

/// Calls body(offset, length, run) for each run of row `row`; `offset` counts from the first
/// weight.
template <typename Body>
void for_runs(const WeightGrid& grid, int64_t row, const Body& body) {
  const int64_t length = run_length(grid.group_size, grid.in_features);
  for (int64_t column = 0; column < grid.in_features; column += length) {
    const int64_t count = std::min(length, grid.in_features - column);
    body(static_cast<size_t>(row * grid.in_features + column), static_cast<size_t>(count),
         run_scale(grid, grid.scale_index(row, column)));
  }
}

}  // namespace

GridValue round_to_grid(const WeightGrid& grid, int64_t row, int64_t column,
                        float weight) noexcept {
  const RunScale run = run_scale(grid, grid.scale_index(row, column));
  float unit = 0;
  round_units(grid.format, grid.symmetric, run, {&weight, 1}, {&unit, 1});
  return {unit_code(grid.format, run.zero_point, unit), unit * run.scale};
}

void fit_group_absmax(WeightGrid& grid, int64_t row, int64_t group, std::span<const float> values) {
  const int64_t column = group * run_length(grid.group_size, grid.in_features);
  set_run_scale(grid, grid.scale_index(row, column), fit_range(grid, value_range(values)));
}

RunScale fit_range(const WeightGrid& grid, const ValueRange& range) {
  RunScale run = scale_for_range(grid.format, grid.symmetric, range);
  if (is_fp4(grid.format)) {
    const bool empty = range.lowest == 0 && range.highest == 0;
    run.scale = stored_scale(grid.format, grid.global_scale, empty ? grid.global_scale : run.scale);
  }
  return run;
}

WeightGrid empty_grid(std::span<const float> weight, int64_t out_features, int64_t in_features,
                      const GridSpec& spec) {
  check_grid_shape(weight, out_features, in_features, spec);
  WeightGrid grid;
  grid.format = spec.format;
  grid.out_features = out_features;
  grid.in_features = in_features;
  grid.group_size = spec.group_size;
  grid.symmetric = spec.symmetric;
  grid.block_rows = spec.block_rows;
  grid.global_scale = spec.global_scale;
  const int64_t scale_rows =
      spec.group_size == kPerTensor ? 1 : (out_features + spec.block_rows - 1) / spec.block_rows;
  grid.scale.assign(static_cast<size_t>(scale_rows * grid.groups()), 1.0F);
  if (!spec.symmetric) grid.zero_point.assign(grid.scale.size(), 0);
  return grid;
}

WeightGrid absmax_grid(std::span<const float> weight, int64_t out_features, int64_t in_features,
                       const GridSpec& spec) {
  WeightGrid grid = empty_grid(weight, out_features, in_features, spec);
  if (spec.group_size == kPerTensor) {
    fit_group_absmax(grid, 0, 0, weight);
    return grid;
  }
  const int64_t length = run_length(spec.group_size, in_features);
  for (int64_t first = 0; first < out_features; first += spec.block_rows) {
    for (int64_t group = 0; group < grid.groups(); ++group) {
      const int64_t column = group * length;
      const int64_t count = std::min(length, in_features - column);
      ValueRange range;
      for (int64_t row = first; row < std::min(first + spec.block_rows, out_features); ++row) {
        const ValueRange of_row = value_range(weight.subspan(
            static_cast<size_t>(row * in_features + column), static_cast<size_t>(count)));
        range.lowest = std::min(range.lowest, of_row.lowest);
        range.highest = std::max(range.highest, of_row.highest);
      }
      set_run_scale(grid, grid.scale_index(first, column), fit_range(grid, range));
    }
  }
  return grid;
}

std::vector<int8_t> encode(const WeightGrid& grid, std::span<const float> weight,
                           ThreadPool& pool) {
  std::vector<int8_t> codes(weight.size());
  for_row_blocks(grid.out_features, pool, [&](int64_t begin, int64_t end) {
    const auto first = static_cast<size_t>(begin * grid.in_features);
    const auto count = static_cast<size_t>((end - begin) * grid.in_features);
    value_range(weight.subspan(first, count));  // for its test of finiteness
    for (int64_t row = begin; row < end; ++row) {
      for_runs(grid, row, [&](size_t offset, size_t length, const RunScale& run) {
        round_codes(grid.format, grid.symmetric, run, weight.subspan(offset, length),
                    std::span(codes).subspan(offset, length));
      });
    }
  });
  return codes;
}

int64_t count_clipped(const WeightGrid& grid, std::span<const float> weight) {
  int64_t count = 0;
  for (int64_t row = 0; row < grid.out_features; ++row) {
    for_runs(grid, row, [&](size_t offset, size_t length, const RunScale& run) {
      const UnitBounds bounds = clip_bounds(grid.format, grid.symmetric, run.zero_point);
      for (const float value : weight.subspan(offset, length)) {
        const float unit = value / run.scale;
        if (unit < bounds.lowest || unit > bounds.highest) ++count;
      }
    });
  }
  return count;
}

std::vector<float> round_trip(const WeightGrid& grid, std::span<const float> weight,
                              ThreadPool& pool) {
  std::vector<float> values(weight.size());
  for_row_blocks(grid.out_features, pool, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for_runs(grid, row, [&](size_t offset, size_t length, const RunScale& run) {
        round_values(grid.format, grid.symmetric, run, weight.subspan(offset, length),
                     std::span(values).subspan(offset, length));
      });
    }
  });
  return values;
}

}  // namespace pare
