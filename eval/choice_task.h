// A task of questions from its files to results.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/progress_meter.h"
#include "core/thread_pool.h"
#include "eval/evaluated_model.h"
#include "model/linear.h"
#include "pare/evaluate.h"

namespace pare {

struct ChoiceTaskRun {
  TaskReport report;
  std::vector<ChoiceResult> results;  ///< By model, the baseline first.
  std::vector<ClampCount> clamps;
};

/// Runs one task through all models; the baseline's tokenizer makes the prompts. Throws as
/// read_task(), plan_prompts() and score_choices() do.
ChoiceTaskRun run_choice_task(const std::string& name, std::span<const EvaluatedModel> models,
                              const EvaluateOptions& options, std::span<const size_t> heads,
                              Precision precision, ThreadPool& pool, ProgressMeter& meter);

}  // namespace pare
