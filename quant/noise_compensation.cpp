#include "quant/noise_compensation.h"

#include <algorithm>

#include "pare/error.h"
#include "quant/blas.h"
#include "quant/row_blocks.h"

namespace pare {

std::vector<float> compensate_input_noise(std::span<const float> weight, int64_t out_features,
                                          int64_t in_features, std::span<const double> gram,
                                          int64_t tokens, double noise_variance,
                                          const std::string& name, ThreadPool& pool) {
  const auto columns = static_cast<size_t>(in_features);
  std::vector<double> factor(gram.size());
  for (size_t i = 0; i < factor.size(); ++i) factor[i] = gram[i] / static_cast<double>(tokens);
  for (size_t i = 0; i < columns; ++i) factor[i * columns + i] += noise_variance;
  use_single_threaded_blas();
  if (!factorize_cholesky(factor, in_features)) {
    throw Error(ErrorCode::kNonFinite,
                name +
                    ": the Gram matrix of the input is not positive definite with noise of "
                    "variance " +
                    std::to_string(noise_variance) + " added");
  }
  std::vector<float> result(weight.begin(), weight.end());
  for_row_blocks(out_features, pool, [&](int64_t begin, int64_t end) {
    const std::span<float> rows(result.data() + begin * in_features,
                                static_cast<size_t>((end - begin) * in_features));
    std::vector<double> solution(rows.begin(), rows.end());
    solve_cholesky(factor, in_features, solution, end - begin);
    for (size_t i = 0; i < rows.size(); ++i) {
      rows[i] = static_cast<float>(static_cast<double>(rows[i]) - noise_variance * solution[i]);
    }
  });
  return result;
}

}  // namespace pare
