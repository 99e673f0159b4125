// Runs several models over the prompts of a task, layer by layer.
//
// As LockstepRunner, but over units of questions that branch off common stems: in each layer the
// stems run first and their keys and values are kept, then the units go on from copies of them. A
// stem and a unit run on one thread each, so results do not depend on the number of threads.
//
//   PromptRunner runner(models, Precision::kBf16, pool, meter);
//   runner.run(plan, first_unit, units, "", hidden);   // hidden.units[model] is [rows, width]
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/progress_meter.h"
#include "core/thread_pool.h"
#include "eval/evaluated_model.h"
#include "eval/lockstep.h"
#include "eval/prompts.h"
#include "model/block_runner.h"

namespace pare {

/// Hidden states by model: [rows of the stems or units of a run, hidden size].
struct PromptStates {
  std::vector<std::vector<float>> stems;
  std::vector<std::vector<float>> units;
};

class PromptRunner {
 public:
  /// Keeps references.
  PromptRunner(std::span<const EvaluatedModel> models, Precision precision, ThreadPool& pool,
               ProgressMeter& meter)
      : models_(models),
        precision_(precision),
        pool_(pool),
        meter_(meter),
        clamps_(models.size()) {}

  /// Units [first, first + count) of the plan. hidden.units[model] becomes the residual stream
  /// after the last layer. `prefix` starts the progress reports.
  void run(const PromptPlan& plan, size_t first, size_t count, const std::string& prefix,
           PromptStates& hidden, const LayerSteps& steps = {});

  /// Cost of run() for progress, in multiplications.
  double cost(const PromptPlan& plan, size_t first, size_t count) const;

  /// Of each model, over all calls of run(); may be set, where a run goes on.
  std::vector<ClampCount>& clamps() noexcept { return clamps_; }

 private:
  struct Batch;
  void embed(const PromptPlan& plan, const Batch& batch, PromptStates& hidden);
  void run_layer(size_t model, const BlockGraph& block, const PromptPlan& plan, Batch& batch,
                 std::vector<float>& stem_hidden, std::vector<float>& hidden);

  std::span<const EvaluatedModel> models_;
  Precision precision_;
  ThreadPool& pool_;
  ProgressMeter& meter_;
  std::vector<ClampCount> clamps_;
};

}  // namespace pare
