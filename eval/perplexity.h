// The losses of every scored token in every model, and how far their predictions are apart.
//
// Each window is scored by itself: a token is predicted from those before it in the window.
// Divergence is exact: both models' logits over the whole vocabulary, in one pass.
//
//   std::vector<TokenScores> scores = score_windows(models, text.scored, setup, pool, meter);
//   PerplexityResult result = summarize(scores[1], scores[0], text.scored, classes);
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/progress_meter.h"
#include "core/thread_pool.h"
#include "eval/evaluated_model.h"
#include "eval/evaluation_cache.h"
#include "eval/memory_plan.h"
#include "eval/scored_windows.h"
#include "model/linear.h"

namespace pare {

/// Of one model, a value for each score, in the order of ScoredWindows::first.
struct TokenScores {
  ClampCount clamps;              ///< Of static activation ranges.
  std::vector<float> nll;         ///< −log p(token), in nats.
  std::vector<float> kl;          ///< KL(baseline ‖ model), in nats; empty for the baseline.
  std::vector<uint8_t> same_top;  ///< 1 where both models' most likely token is the same; likewise.
  std::vector<uint8_t> common_top5;  ///< Of both models' five most likely tokens; likewise.
};

/// Of so many models, the first of them the baseline, on so many tokens.
std::vector<TokenScores> allocate_scores(size_t models, size_t count);

struct ScoringSetup {
  Precision precision = Precision::kBf16;
  std::vector<size_t> heads;  ///< As shared_heads() says.
  MemoryPlan plan;
  Checkpointer* checkpointer = nullptr;  ///< Keeps the state of an interrupted run; may be null.
  /// Keeps the baseline's last hidden states for runs with other candidates; may be null.
  EvaluationCache* cache = nullptr;
  std::string baseline_description;  ///< What they follow from, for the cache.
};

/// Scores of all models; the first is the baseline. Does not depend on the plan or on the number
/// of threads. Throws Error(kNonFinite) naming model and window, Error(kInterrupted).
std::vector<TokenScores> score_windows(std::span<const EvaluatedModel> models,
                                       const ScoredWindows& text, const ScoringSetup& setup,
                                       ThreadPool& pool, ProgressMeter& meter);

}  // namespace pare
