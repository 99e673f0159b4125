// A task of questions from its files to results.
#pragma once

#include <string>
#include <vector>

#include "eval/prompts.h"
#include "eval/task_context.h"
#include "eval/tasks/task.h"
#include "model/linear.h"
#include "pare/evaluate.h"

namespace pare {

/// Questions that are read and known to fit into memory.
struct ChoiceTask {
  Task task;
  PromptPlan plan;
  int64_t pass_bytes = 0;  ///< As ChoiceSetup says, for all models.
};

struct ChoiceTaskRun {
  TaskReport report;
  std::vector<ChoiceResult> results;  ///< By model, the baseline first.
  std::vector<ClampCount> clamps;
};

/// Reads a task and makes its prompts with the baseline's tokenizer, so that what cannot work fails
/// before anything runs. Throws as read_task() and plan_prompts() do, and Error(kLimitExceeded)
/// with the number of bytes that would do when options.max_memory cannot be kept.
ChoiceTask prepare_choice_task(const std::string& name, std::span<const EvaluatedModel> models,
                               const EvaluateOptions& options, std::span<const size_t> heads,
                               Precision precision, int64_t threads);

/// Runs it through all models. Throws as score_choices() does.
ChoiceTaskRun run_choice_task(const ChoiceTask& task, const TaskContext& context);

}  // namespace pare
