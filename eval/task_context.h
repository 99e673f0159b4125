// What every task of an evaluation works with.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/progress_meter.h"
#include "core/thread_pool.h"
#include "eval/evaluated_model.h"
#include "eval/evaluation_cache.h"
#include "model/linear.h"
#include "pare/evaluate.h"

namespace pare {

/// References to what outlives the task.
struct TaskContext {
  std::span<const EvaluatedModel> models;  ///< The baseline first.
  std::span<const std::string> digests;    ///< Of the models.
  const EvaluateOptions& options;
  Precision precision = Precision::kBf16;
  ThreadPool& pool;
  ProgressMeter& meter;
  EvaluationCache& cache;
};

/// What scores of `models` on token ids follow from, for the cache: with `more`, which tells one
/// way of scoring from another.
std::string describe_scores(const TaskContext& context, const std::string& kind,
                            std::span<const size_t> models, const std::string& ids_sha256,
                            const std::string& more);

}  // namespace pare
