// What calibration knows about the input of a set of linear layers.
//
// One object serves all linears that share an input (q, k, v; gate, up; …). Sums run over the
// tokens of the calibration set in a fixed order, so they do not depend on the number of threads.
#pragma once

#include <cstdint>
#include <vector>

namespace pare {

struct InputStatistics {
  int64_t in_features = 0;
  int64_t tokens = 0;           ///< Number of tokens seen, padding excluded.
  std::vector<float> amax;      ///< [in] largest magnitude.
  std::vector<float> mean_abs;  ///< [in] mean magnitude.
  std::vector<double> gram;  ///< [in, in] Σ x xᵀ over tokens, symmetric, both halves; or empty.
  /// [in, in] Σ (x̃ − x) xᵀ, where x̃ is what the uncompressed model has in place of x; or empty.
  std::vector<double> mismatch;
  std::vector<double> square_sum;  ///< [in] Σ x², the diagonal of the Gram matrix; always filled.
  std::vector<uint16_t> sample;    ///< [sample_tokens, in] bf16, evenly spread over the set.
  int64_t sample_tokens = 0;
};

/// The statistics of x · input_scale: what the linears see after their input is rescaled.
InputStatistics rescale(InputStatistics statistics, const std::vector<float>& input_scale);

}  // namespace pare
