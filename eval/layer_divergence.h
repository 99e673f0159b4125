// Divergence of models that differ from a baseline in one place, from their last hidden states.
//
// Sums run over fixed chunks of positions, each on one thread, and are added in order, so that they
// do not depend on threads. Keeps references to what it is given.
//
//   SwapDivergence divergence(baseline, windows, precision, pool, meter);
//   std::vector<std::vector<double>> means = divergence.of(base, models, count);
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "calib/token_source.h"
#include "core/progress_meter.h"
#include "core/thread_pool.h"
#include "eval/evaluated_model.h"
#include "eval/layer_swap.h"
#include "model/model_head.h"

namespace pare {

/// Means of a head on the baseline's hidden states.
struct HeadError {
  std::vector<double> kl;           ///< Of each window, nats a token.
  std::vector<OutputError> logits;  ///< Of each window.
};

class SwapDivergence {
 public:
  SwapDivergence(const EvaluatedModel& baseline, const TokenWindows& windows, Precision precision,
                 ThreadPool& pool, ProgressMeter& meter);

  /// Mean divergence of each model in each of `count` windows: `base` and each of `models` are
  /// hidden states [count, length, hidden size] after the last block. A mean is NaN or infinite
  /// where the states are.
  std::vector<std::vector<double>> of(const float* base, std::span<const float* const> models,
                                      int64_t count) const;

  /// The same for the baseline with the candidate's final norm and head.
  HeadError of_head(const EvaluatedModel& candidate, const float* base, int64_t count) const;

  /// Cost of of() in multiplications, for progress; of_head() costs that of one model.
  double cost(size_t models, int64_t count) const;

 private:
  struct Chunk {
    int64_t window = 0;
    int64_t position = 0;
    int64_t rows = 0;
  };
  int64_t chunks() const;
  Chunk chunk(int64_t item) const;
  int64_t offset(const Chunk& chunk) const;
  double chunk_cost(size_t models) const;

  const EvaluatedModel& baseline_;
  const TokenWindows& windows_;
  Precision precision_;
  ThreadPool& pool_;
  ProgressMeter& meter_;
  int64_t rows_;
};

}  // namespace pare
