// A task of questions from its files to results.
#pragma once

#include <string>
#include <vector>

#include "eval/task_context.h"
#include "model/linear.h"
#include "pare/evaluate.h"

namespace pare {

struct ChoiceTaskRun {
  TaskReport report;
  std::vector<ChoiceResult> results;  ///< By model, the baseline first.
  std::vector<ClampCount> clamps;
};

/// Runs one task through all models; the baseline's tokenizer makes the prompts. Throws as
/// read_task(), plan_prompts() and score_choices() do, and Error(kLimitExceeded) with the number of
/// bytes that would do when options.max_memory cannot be kept.
ChoiceTaskRun run_choice_task(const std::string& name, const TaskContext& context);

}  // namespace pare
