// A task of perplexity from its text to results.
//
//   PerplexityTask task = prepare_perplexity_task("perplexity", models, …);   // reads the text
//   PerplexityTaskRun run = run_perplexity_task(task, context);
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "eval/conventions.h"
#include "eval/evaluated_model.h"
#include "eval/memory_plan.h"
#include "eval/task_context.h"
#include "pare/evaluate.h"

namespace pare {

/// A text that is read and known to fit into memory.
struct PerplexityTask {
  std::string name;
  PerplexityText text;
  MemoryPlan plan;
  std::vector<uint8_t> classes;       ///< Of each score's token; empty where they are unknown.
  std::vector<std::string> warnings;  ///< For the report.
};

/// Reads the text and plans memory, so that what cannot work fails before anything runs. Throws as
/// read_perplexity_text() and plan_memory() do.
PerplexityTask prepare_perplexity_task(const std::string& name,
                                       std::span<const EvaluatedModel> models,
                                       const EvaluateOptions& options,
                                       std::span<const size_t> heads, Precision precision,
                                       int64_t threads);

struct PerplexityTaskRun {
  TaskReport report;
  std::vector<PerplexityResult> results;  ///< By model, the baseline first.
  std::vector<ClampCount> clamps;
};

/// Throws as score_windows() does.
PerplexityTaskRun run_perplexity_task(const PerplexityTask& task, const TaskContext& context);

}  // namespace pare
