// Random layers for the tests: activations with correlated channels and a few heavy ones, as the
// inputs of trained models have, and weights whose columns differ in size.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "calib/statistics.h"
#include "core/dtype.h"
#include "quant/linear_group.h"

namespace pare::test {

/// What a failing random test prints.
inline std::string seed_text(uint32_t seed) { return "seed " + std::to_string(seed); }

inline std::vector<float> random_weight(uint32_t seed, int64_t rows, int64_t columns) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> weight(static_cast<size_t>(rows * columns));
  for (float& value : weight) value = 0.02F * normal(random);
  return weight;
}

/// [tokens, columns], rounded to bf16. Every eighth channel is `heavy` times larger.
inline std::vector<float> random_activations(uint32_t seed, int64_t tokens, int64_t columns,
                                             float heavy) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(tokens * columns));
  for (int64_t token = 0; token < tokens; ++token) {
    const float common = normal(random);
    for (int64_t i = 0; i < columns; ++i) {
      const float size = i % 8 == 3 ? heavy : 1.0F;
      x[static_cast<size_t>(token * columns + i)] =
          round_to_bf16(size * (normal(random) + 0.5F * common));
    }
  }
  return x;
}

/// Statistics of x [tokens, columns], computed plainly; every `stride`-th token is sampled.
inline InputStatistics statistics_of(const std::vector<float>& x, int64_t tokens, int64_t columns,
                                     int64_t stride = 4) {
  const auto n = static_cast<size_t>(columns);
  InputStatistics statistics;
  statistics.in_features = columns;
  statistics.tokens = tokens;
  statistics.amax.assign(n, 0);
  statistics.mean_abs.assign(n, 0);
  statistics.square_sum.assign(n, 0);
  statistics.gram.assign(n * n, 0);
  std::vector<double> sum(n);
  for (size_t token = 0; token < static_cast<size_t>(tokens); ++token) {
    const float* row = x.data() + token * n;
    for (size_t i = 0; i < n; ++i) {
      statistics.amax[i] = std::max(statistics.amax[i], std::abs(row[i]));
      sum[i] += static_cast<double>(std::abs(row[i]));
      for (size_t j = 0; j < n; ++j) {
        statistics.gram[i * n + j] += static_cast<double>(row[i]) * static_cast<double>(row[j]);
      }
    }
    if (stride > 0 && token % static_cast<size_t>(stride) == 0) {
      for (size_t i = 0; i < n; ++i) statistics.sample.push_back(f32_to_bf16(row[i]));
      ++statistics.sample_tokens;
    }
  }
  for (size_t i = 0; i < n; ++i) {
    statistics.square_sum[i] = statistics.gram[i * n + i];
    statistics.mean_abs[i] = static_cast<float>(sum[i] / static_cast<double>(tokens));
  }
  return statistics;
}

/// ‖X dᵀ‖² / tokens, token by token in double: the definition.
inline double direct_output_error(const std::vector<float>& x, const std::vector<float>& delta,
                                  int64_t tokens, int64_t rows, int64_t columns) {
  double sum = 0;
  for (int64_t token = 0; token < tokens; ++token) {
    for (int64_t row = 0; row < rows; ++row) {
      double y = 0;
      for (int64_t i = 0; i < columns; ++i) {
        y += static_cast<double>(x[static_cast<size_t>(token * columns + i)]) *
             static_cast<double>(delta[static_cast<size_t>(row * columns + i)]);
      }
      sum += y * y;
    }
  }
  return sum / static_cast<double>(tokens);
}

inline std::vector<float> subtract(const std::vector<float>& a, const std::vector<float>& b) {
  std::vector<float> difference(a.size());
  for (size_t i = 0; i < a.size(); ++i) difference[i] = a[i] - b[i];
  return difference;
}

/// Columns of ones and zeros as a Gram matrix of independent channels.
inline std::vector<float> identity_gram(int64_t columns) {
  std::vector<float> gram(static_cast<size_t>(columns * columns));
  for (int64_t i = 0; i < columns; ++i) gram[static_cast<size_t>(i * (columns + 1))] = 1;
  return gram;
}

}  // namespace pare::test
