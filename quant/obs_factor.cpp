#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "pare/error.h"
#include "quant/blas.h"
#include "quant/gram_diagonal.h"
#include "quant/obs_solver.h"

namespace pare {
namespace {

constexpr int kAttempts = 6;  // the damping asked for, then five raises
constexpr double kFirstRaise = 1e-6;

bool is_finite(std::span<const double> values) {
  return std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
}

}  // namespace

InverseFactor factorize_inverse(std::span<const double> gram, int64_t in_features, double damping,
                                const std::string& name, std::span<const double> noise) {
  const auto columns = static_cast<size_t>(in_features);
  if (in_features <= 0 || gram.size() != columns * columns) {
    throw Error(ErrorCode::kInternal, name + ": Gram matrix has " + std::to_string(gram.size()) +
                                          " elements for " + std::to_string(in_features) +
                                          " input channels");
  }
  if (!is_finite(gram)) {
    throw Error(ErrorCode::kNonFinite,
                name +
                    ": the Gram matrix of the input holds NaN or infinity; the activations of "
                    "the calibration text are not finite");
  }
  const auto noise_of = [&](size_t i) { return noise.empty() ? 0.0 : noise[i]; };
  InverseFactor factor;
  factor.in_features = in_features;
  factor.dead.assign(columns, 0);
  for (size_t i = 0; i < columns; ++i) {
    factor.dead[i] = gram[i * columns + i] + noise_of(i) > 0 ? 0 : 1;
  }
  const double mean = mean_live_diagonal(gram, in_features);
  const double mean_diagonal = mean > 0 ? mean : 1.0;

  use_single_threaded_blas();
  std::vector<double> matrix(gram.size());
  factor.damping = damping;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (attempt > 0) factor.damping = std::max(factor.damping * 10, kFirstRaise);
    std::copy(gram.begin(), gram.end(), matrix.begin());
    for (size_t i = 0; i < columns; ++i) {
      double& diagonal = matrix[i * columns + i];
      if (factor.dead[i] != 0) diagonal = 1.0;
      diagonal += noise_of(i) + factor.damping * mean_diagonal;
    }
    if (!invert_to_upper_factor(matrix, in_features) || !is_finite(matrix)) continue;
    factor.upper.assign(matrix.begin(), matrix.end());
    const auto in_float_range = [](float value) { return std::isfinite(value); };
    if (!std::all_of(factor.upper.begin(), factor.upper.end(), in_float_range)) continue;
    bool positive = true;
    for (size_t i = 0; i < columns; ++i) positive &= factor.upper[i * columns + i] > 0;
    if (positive) return factor;
  }
  throw Error(ErrorCode::kNonFinite,
              name + ": the Gram matrix of the input cannot be inverted, even with " +
                  std::to_string(factor.damping) +
                  " of its mean diagonal added; use more calibration tokens");
}

}  // namespace pare
