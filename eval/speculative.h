// Acceptance probabilities of every position for pairs of draft and target models.
//
// All models go through the windows in lock-step; then the logits of a position are made for all of
// them, and each pair's two distributions are compared over the whole vocabulary. A window runs on
// one thread, so results do not depend on the number of threads or on the plan.
//
//   std::vector<PairScores> scores = score_pairs(models, pairs, windows, setup, pool, meter,
//   clamps); AcceptanceCurve curve = acceptance_curve(scores[0].sampling, windows.length - 1,
//   kLongestDraft);
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "calib/token_source.h"
#include "core/progress_meter.h"
#include "core/thread_pool.h"
#include "eval/evaluated_model.h"
#include "eval/memory_plan.h"
#include "model/linear.h"

namespace pare {

/// Indices into the models.
struct ModelPair {
  size_t draft = 0;
  size_t target = 0;
};

/// Of one pair, a value for each position that predicts a token, [windows, length − 1].
struct PairScores {
  std::vector<float> sampling;  ///< Probability that a token sampled from the draft is kept.
  std::vector<float> greedy;    ///< 1 where both models' most likely token is the same, else 0.
};

struct PairSetup {
  Precision precision = Precision::kBf16;
  double temperature = 1;     ///< Of sampling.
  std::vector<size_t> heads;  ///< As shared_heads() says.
  MemoryPlan plan;
};

/// Σ_v min(p_target(v), p_draft(v)) of two rows of logits with the log_sum_exp of each, in [0, 1].
/// Where the rows differ in length, tokens beyond the shorter one have probability 0 in it. Exactly
/// 1 for a row and itself.
double acceptance_probability(std::span<const float> target, double target_log_sum_exp,
                              std::span<const float> draft, double draft_log_sum_exp);

/// Scores of all pairs; adds to clamps[model]. Throws Error(kNonFinite) naming model and window,
/// Error(kInterrupted).
std::vector<PairScores> score_pairs(std::span<const EvaluatedModel> models,
                                    std::span<const ModelPair> pairs, const TokenWindows& windows,
                                    const PairSetup& setup, ThreadPool& pool, ProgressMeter& meter,
                                    std::vector<ClampCount>& clamps);

/// Memory that score_pairs() takes beyond what plan_memory() knows of: all models' logits are held
/// at a time, and two values a position and pair. For WorkShape::extra_bytes.
int64_t pair_scoring_bytes(std::span<const EvaluatedModel> models, size_t pairs,
                           const WorkShape& shape);

}  // namespace pare
