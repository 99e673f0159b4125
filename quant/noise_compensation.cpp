#include "quant/noise_compensation.h"

#include "pare/error.h"
#include "quant/blas.h"
#include "quant/gram_diagonal.h"
#include "quant/row_blocks.h"

namespace pare {
namespace {

constexpr int kAttempts = 6;
constexpr double kFirstDamping = 1e-6;
// Of a channel's energy: what is left of it, given the channels before, must be more than this for
// the system to be solved to any purpose.
constexpr double kLeastPivot = 1e-10;

bool is_well_conditioned(std::span<const double> factor, std::span<const double> diagonal) {
  for (size_t i = 0; i < diagonal.size(); ++i) {
    const double root = factor[i * (diagonal.size() + 1)];
    if (!(root * root > kLeastPivot * diagonal[i])) return false;
  }
  return true;
}

}  // namespace

NoiseFilter make_noise_filter(std::span<const double> gram, int64_t tokens,
                              std::vector<double> variance, const std::string& name) {
  const size_t columns = variance.size();
  const auto in = static_cast<int64_t>(columns);
  if (gram.size() != columns * columns) {
    throw Error(ErrorCode::kInternal, name + ": the Gram matrix does not fit the noise");
  }
  const auto count = static_cast<double>(tokens);
  const double mean = mean_live_diagonal<double>(gram, in) / count;
  use_single_threaded_blas();
  NoiseFilter filter{std::move(variance), {}};
  std::vector<double> diagonal(columns);
  double damping = 0;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    filter.factor.assign(gram.begin(), gram.end());
    for (double& value : filter.factor) value /= count;
    for (size_t i = 0; i < columns; ++i) {
      double& value = filter.factor[i * (columns + 1)];
      value += filter.variance[i] + damping * mean;
      if (value == 0) value = 1;
      diagonal[i] = value;
    }
    if (factorize_cholesky(filter.factor, in) && is_well_conditioned(filter.factor, diagonal)) {
      return filter;
    }
    damping = damping > 0 ? 10 * damping : kFirstDamping;
  }
  throw Error(ErrorCode::kNonFinite,
              name +
                  ": the Gram matrix of the input is not positive definite with the noise of its "
                  "rounding added");
}

std::vector<float> compensate_input_noise(std::span<const float> weight, int64_t out_features,
                                          const NoiseFilter& filter, ThreadPool& pool) {
  const size_t columns = filter.variance.size();
  const auto in = static_cast<int64_t>(columns);
  std::vector<float> result(weight.begin(), weight.end());
  use_single_threaded_blas();
  for_row_blocks(out_features, pool, [&](int64_t begin, int64_t end) {
    const std::span<float> rows(result.data() + begin * in,
                                static_cast<size_t>((end - begin) * in));
    std::vector<double> solution(rows.begin(), rows.end());
    for (size_t i = 0; i < solution.size(); ++i) solution[i] *= filter.variance[i % columns];
    solve_cholesky(filter.factor, in, solution, end - begin);
    for (size_t i = 0; i < rows.size(); ++i) {
      rows[i] = static_cast<float>(static_cast<double>(rows[i]) - solution[i]);
    }
  });
  return result;
}

}  // namespace pare
