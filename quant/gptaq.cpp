#include "quant/gptaq.h"

#include <algorithm>
#include <cmath>

#include "pare/error.h"
#include "quant/blas.h"
#include "quant/gram_diagonal.h"
#include "quant/row_blocks.h"

namespace pare {

std::vector<float> mismatch_correction(const InputStatistics& statistics, double share,
                                       double damping, const std::string& name, ThreadPool& pool) {
  const int64_t in = statistics.in_features;
  const auto columns = static_cast<size_t>(in);
  if (statistics.gram.size() != columns * columns ||
      statistics.mismatch.size() != columns * columns) {
    throw Error(ErrorCode::kInternal, name + ": no statistics of the uncompressed model's input");
  }
  std::vector<double> factor = statistics.gram;
  const double mean = mean_live_diagonal<double>(factor, in);
  const double added = mean > 0 ? damping * mean : 1.0;
  for (size_t i = 0; i < columns; ++i) factor[i * (columns + 1)] += added;
  use_single_threaded_blas();
  if (!factorize_cholesky(factor, in)) {
    throw Error(ErrorCode::kNonFinite,
                name + ": the Gram matrix of the input is not positive definite with damping of " +
                    std::to_string(damping));
  }
  std::vector<float> correction(statistics.mismatch.size());
  for_row_blocks(in, pool, [&](int64_t begin, int64_t end) {
    const auto first = statistics.mismatch.begin() + begin * in;
    std::vector<double> rows(first, first + (end - begin) * in);
    solve_cholesky(factor, in, rows, end - begin);
    std::transform(rows.begin(), rows.end(), correction.begin() + begin * in,
                   [&](double value) { return static_cast<float>(share * value); });
  });
  const auto finite = [](float value) { return std::isfinite(value); };
  if (!std::all_of(correction.begin(), correction.end(), finite)) {
    throw Error(ErrorCode::kNonFinite, name + ": the statistics of the input hold NaN or infinity");
  }
  return correction;
}

std::vector<float> match_original(std::span<const float> weight, int64_t out_features,
                                  int64_t in_features, std::span<const float> correction,
                                  ThreadPool& pool) {
  std::vector<float> result(weight.begin(), weight.end());
  use_single_threaded_blas();
  for_row_blocks(out_features, pool, [&](int64_t begin, int64_t end) {
    sgemm({.m = end - begin,
           .n = in_features,
           .k = in_features,
           .lda = in_features,
           .ldb = in_features,
           .ldc = in_features,
           .beta = 1},
          weight.data() + begin * in_features, correction.data(),
          result.data() + begin * in_features);
  });
  return result;
}

}  // namespace pare
