// The perplexity task: losses of every token in every model, and what follows from them.
//
// Each window is scored by itself: position i is predicted from the positions before it in the
// window, so the first position has no score. Divergence is exact: both models' logits over the
// whole vocabulary, in one pass.
//
//   std::vector<TokenScores> scores = score_windows(models, windows, setup, pool, meter);
//   PerplexityResult baseline = summarize(scores[0], windows);
//   PerplexityResult candidate = summarize(scores[1], scores[0], windows);
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "calib/token_source.h"
#include "core/progress_meter.h"
#include "core/thread_pool.h"
#include "eval/evaluated_model.h"
#include "eval/memory_plan.h"
#include "model/linear.h"
#include "pare/evaluate.h"

namespace pare {

/// Of one model, a value for each scored position, [windows, length − 1].
struct TokenScores {
  ClampCount clamps;            ///< Of static activation ranges.
  std::vector<float> nll;       ///< −log p(token), in nats.
  std::vector<float> kl;        ///< KL(baseline ‖ model), in nats; empty for the baseline.
  std::vector<uint8_t> agrees;  ///< 1 where both models' most likely token is the same; likewise.
};

struct ScoringSetup {
  Precision precision = Precision::kBf16;
  std::vector<size_t> heads;  ///< As shared_heads() says.
  MemoryPlan plan;
};

/// Scores of all models; the first is the baseline. Does not depend on the plan or on the number
/// of threads. Throws Error(kNonFinite) naming model and window, Error(kInterrupted).
std::vector<TokenScores> score_windows(std::span<const EvaluatedModel> models,
                                       const TokenWindows& windows, const ScoringSetup& setup,
                                       ThreadPool& pool, ProgressMeter& meter);

/// All of PerplexityResult but the method.
PerplexityResult summarize(const TokenScores& baseline, const TokenWindows& windows);
PerplexityResult summarize(const TokenScores& candidate, const TokenScores& baseline,
                           const TokenWindows& windows);

/// The convention in words and numbers, with what the ids say about the beginning of the text.
std::string describe_method(const TokenWindows& windows, std::span<const int32_t> bos);

}  // namespace pare
