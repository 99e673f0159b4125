#include "quant/scaled_error.h"

#include <algorithm>
#include <vector>

#include "quant/blas.h"
#include "quant/clip_search.h"
#include "quant/grid_rounding.h"
#include "quant/output_error.h"
#include "quant/row_blocks.h"
#include "quant/row_error.h"

namespace pare {
namespace {

std::vector<float> reciprocal(std::span<const float> scale) {
  std::vector<float> inverse(scale.size());
  for (size_t i = 0; i < scale.size(); ++i) inverse[i] = 1.0F / scale[i];
  return inverse;
}

/// Rows [begin, end) of the weight times the scales.
void scale_rows(const GroupLinear& linear, std::span<const float> scale, int64_t begin, int64_t end,
                std::span<float> out) {
  const size_t columns = scale.size();
  for (int64_t row = begin; row < end; ++row) {
    const float* in = linear.weight.data() + static_cast<size_t>(row) * columns;
    float* values = out.data() + static_cast<size_t>(row - begin) * columns;
    for (size_t i = 0; i < columns; ++i) values[i] = in[i] * scale[i];
  }
}

/// values ← weight − values / scale for rows [begin, end).
void subtract_rows(const GroupLinear& linear, std::span<const float> inverse, int64_t begin,
                   int64_t end, std::span<float> values) {
  const size_t columns = inverse.size();
  for (int64_t row = begin; row < end; ++row) {
    const float* in = linear.weight.data() + static_cast<size_t>(row) * columns;
    float* out = values.data() + static_cast<size_t>(row - begin) * columns;
    for (size_t i = 0; i < columns; ++i) out[i] = in[i] - out[i] * inverse[i];
  }
}

ValueRange scaled_range(const GroupLinear& linear, std::span<const float> scale) {
  std::vector<float> row_values(scale.size());
  ValueRange range;
  for (int64_t row = 0; row < linear.out_features; ++row) {
    scale_rows(linear, scale, row, row + 1, row_values);
    const ValueRange found = value_range(row_values);
    range.lowest = std::min(range.lowest, found.lowest);
    range.highest = std::max(range.highest, found.highest);
  }
  return range;
}

double sum_row_errors(std::span<const float> delta, int64_t rows, int64_t columns,
                      std::span<const float> gram) {
  std::vector<float> product;
  std::vector<double> errors(static_cast<size_t>(rows));
  row_errors(delta, rows, columns, gram.data(), gram_stride(gram, columns), product, errors);
  double sum = 0;
  for (const double error : errors) sum += error;
  return sum;
}

/// With the global scale that NVFP4 would have for the scaled weights of the whole group.
GridSpec scaled_spec(const LinearGroup& group, std::span<const float> scale, const GridSpec& spec) {
  if (spec.format != WeightFormat::kNvfp4) return spec;
  float absmax = 0;
  for (const GroupLinear& linear : group.linears) {
    const ValueRange range = scaled_range(linear, scale);
    absmax = std::max({absmax, -range.lowest, range.highest});
  }
  return with_global_scale(spec, absmax);
}

double absmax_linear_error(const GroupLinear& linear, std::span<const float> scale,
                           std::span<const float> inverse, const GridSpec& spec,
                           std::span<const float> gram, ThreadPool& pool) {
  const auto columns = static_cast<int64_t>(scale.size());
  RunScale whole;
  if (spec.group_size == kPerTensor) {
    whole = scale_for_range(spec.format, spec.symmetric, scaled_range(linear, scale));
  }
  const int64_t length = run_length(spec.group_size, columns);
  return sum_row_blocks(linear.out_features, pool, [&](int64_t begin, int64_t end) {
    std::vector<float> values(static_cast<size_t>((end - begin) * columns));
    scale_rows(linear, scale, begin, end, values);
    for (int64_t row = 0; row < end - begin; ++row) {
      for (int64_t column = 0; column < columns; column += length) {
        const std::span<float> run(values.data() + row * columns + column,
                                   static_cast<size_t>(std::min(length, columns - column)));
        RunScale fitted = spec.group_size == kPerTensor
                              ? whole
                              : scale_for_range(spec.format, spec.symmetric, value_range(run));
        fitted.scale = stored_scale(spec.format, spec.global_scale, fitted.scale);
        round_values(spec.format, spec.symmetric, fitted, run, run);
      }
    }
    subtract_rows(linear, inverse, begin, end, values);
    return sum_row_errors(values, end - begin, columns, gram);
  });
}

/// The Gram matrix (or its diagonal) of x / scale.
std::vector<float> rescale_gram(std::span<const float> gram, std::span<const float> inverse) {
  const size_t columns = inverse.size();
  std::vector<float> scaled(gram.begin(), gram.end());
  if (gram.size() == columns) {
    for (size_t i = 0; i < columns; ++i) scaled[i] *= inverse[i] * inverse[i];
    return scaled;
  }
  for (size_t i = 0; i < columns; ++i) {
    for (size_t j = 0; j < columns; ++j) scaled[i * columns + j] *= inverse[i] * inverse[j];
  }
  return scaled;
}

}  // namespace

double absmax_scaled_error(const LinearGroup& group, std::span<const float> scale,
                           const GridSpec& given, std::span<const float> gram, ThreadPool& pool) {
  use_single_threaded_blas();
  const GridSpec spec = scaled_spec(group, scale, given);
  const std::vector<float> inverse = reciprocal(scale);
  double sum = 0;
  for (const GroupLinear& linear : group.linears) {
    sum += absmax_linear_error(linear, scale, inverse, spec, gram, pool);
  }
  return sum;
}

double clipped_scaled_error(const LinearGroup& group, std::span<const float> scale,
                            const GridSpec& given, std::span<const float> gram, ThreadPool& pool) {
  use_single_threaded_blas();
  const GridSpec spec = scaled_spec(group, scale, given);
  const std::vector<float> inverse = reciprocal(scale);
  const std::vector<float> scaled_gram = rescale_gram(gram, inverse);
  double sum = 0;
  for (const GroupLinear& linear : group.linears) {
    std::vector<float> values(linear.weight.size());
    scale_rows(linear, scale, 0, linear.out_features, values);
    const WeightGrid grid =
        search_clip(values, linear.out_features, group.in_features, spec, scaled_gram, {}, pool);
    values = round_trip(grid, values, pool);
    subtract_rows(linear, inverse, 0, linear.out_features, values);
    sum += output_error(values, linear.out_features, group.in_features, gram, pool);
  }
  return sum;
}

}  // namespace pare
