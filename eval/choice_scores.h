// Log-likelihoods of the choices of a task in several models.
//
//   std::vector<ChoiceScores> scores = score_choices(models, plan, setup, pool, meter);
//   std::vector<ItemResult> base = decide(task, plan, scores[0]);
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/progress_meter.h"
#include "core/thread_pool.h"
#include "eval/evaluated_model.h"
#include "eval/evaluation_cache.h"
#include "eval/prompts.h"
#include "eval/tasks/task.h"

namespace pare {

/// Of one model, by number of the choice over the whole plan.
struct ChoiceScores {
  std::vector<double> log_likelihood;  ///< Sum over the continuation's tokens, in nats.
  std::vector<int32_t> tokens;         ///< Of the continuation.
  std::vector<uint8_t> greedy;         ///< 1 where each token was the most likely one.
  ClampCount clamps;
};

struct ChoiceSetup {
  Precision precision = Precision::kBf16;
  std::vector<size_t> heads;  ///< As shared_heads() says.
  /// For what grows with the questions of a pass: hidden states of all models, and the keys and
  /// values of common beginnings. More questions than fit run in passes.
  int64_t pass_bytes = int64_t{4} << 30;
  Checkpointer* checkpointer = nullptr;  ///< Keeps the state of an interrupted run; may be null.
};

/// Bytes of pass_bytes that the greediest unit needs by itself.
int64_t least_pass_bytes(std::span<const EvaluatedModel> models, const PromptPlan& plan,
                         Precision precision);

/// Does not depend on pass_bytes or on the number of threads. Throws Error(kNonFinite) naming the
/// model, Error(kInterrupted). REQUIRES: pass_bytes ≥ least_pass_bytes().
std::vector<ChoiceScores> score_choices(std::span<const EvaluatedModel> models,
                                        const PromptPlan& plan, const ChoiceSetup& setup,
                                        ThreadPool& pool, ProgressMeter& meter);

struct ItemResult {
  int64_t prediction = 0;  ///< Index of the choice; of equal ones the first.
  bool correct = false;
};

/// In the order of plan.items.
std::vector<ItemResult> decide(const Task& task, const PromptPlan& plan,
                               const ChoiceScores& scores);

}  // namespace pare
