// Runs several models over the same windows of tokens, layer by layer.
//
// For layer 0, 1, 2 … the layer of each model is read, all windows go through it, and it is freed;
// so memory holds one layer and the hidden states, whatever the depth. Models may differ in width
// and depth. A window runs on one thread, so results do not depend on the number of threads.
//
//   LockstepRunner runner(models, {.length = 512, .precision = Precision::kBf16}, pool, meter);
//   runner.run(windows, 0, windows.count, "", hidden);   // hidden[model] [windows, 512, hidden
//   size]
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "calib/token_source.h"
#include "core/progress_meter.h"
#include "core/thread_pool.h"
#include "eval/evaluated_model.h"
#include "model/block_runner.h"

namespace pare {

/// Cost of work in multiplications, for progress.
double layer_cost(const BlockGraph& block, int64_t tokens, int64_t length);

/// Calls body(window, worker) for each window, in batches small enough that progress is reported
/// and cancellation noticed in good time. `cost` is that of one window.
void for_each_window(ThreadPool& pool, ProgressMeter& meter, int64_t windows, double cost,
                     const std::function<void(int64_t window, size_t worker)>& body);

/// What of a run is done already, and what to do between layers: for runs that are put aside and
/// taken up again.
struct LayerSteps {
  size_t first = 0;        ///< Hidden states are given as they are after the layers before it.
  bool has_first = false;  ///< Those of the first model are given as they are after its last layer.
  std::function<void(size_t layer)> after;  ///< All models are through `layer`; may be empty.

  bool skips(size_t model, size_t layer) const {
    return layer < first || (has_first && model == 0);
  }
};

/// Calls body(), and names model and layer where it throws Error(kNonFinite).
void name_layer(const EvaluatedModel& model, const BlockGraph& block,
                const std::function<void()>& body);

/// Calls body(model, block) for layer 0 of each model, then for layer 1 …, says so to the meter,
/// and names what fails, as name_layer() does. `prefix` starts the detail.
void for_each_layer(std::span<const EvaluatedModel> models, ProgressMeter& meter,
                    const std::string& prefix, const LayerSteps& steps,
                    const std::function<void(size_t model, const BlockGraph& block)>& body);

/// "pass 2 of 3, ", counted from 1; "" where there is one.
std::string pass_prefix(int64_t pass, int64_t passes);

struct LockstepOptions {
  int64_t length = 0;         ///< Tokens a window.
  int64_t source_length = 0;  ///< At most, of what encoders read; 0: there are none.
  Precision precision = Precision::kBf16;
};

class LockstepRunner {
 public:
  /// Keeps references to all but the options.
  LockstepRunner(std::span<const EvaluatedModel> models, const LockstepOptions& options,
                 ThreadPool& pool, ProgressMeter& meter);

  /// Windows [first, first + count): hidden[model] becomes [count, length, hidden size], the
  /// residual stream after the last layer. `prefix` starts the detail of the progress reports.
  /// Encoders run first, whatever the steps say.
  void run(const TokenWindows& windows, int64_t first, int64_t count, const std::string& prefix,
           std::vector<std::vector<float>>& hidden, const LayerSteps& steps = {});

  /// Of each model, over all calls of run(); may be set, where a run goes on.
  std::vector<ClampCount>& clamps() noexcept { return clamps_; }

  /// Cost of run() for that many windows.
  double cost(int64_t windows) const;

 private:
  // Windows of one run.
  struct Batch {
    const TokenWindows& windows;
    int64_t first = 0;
    int64_t count = 0;
  };
  // What goes through a layer: sequences one after the other.
  struct Rows {
    float* hidden = nullptr;
    std::vector<SequenceRun> sequences;
    std::vector<Segment> segments;
  };
  void embed(const Batch& batch, const LayerSteps& steps, std::vector<std::vector<float>>& hidden);
  void encode(const Batch& batch, const std::string& prefix);
  double cost_of_layer(const BlockGraph& block, int64_t windows) const;
  Rows target_rows(const Batch& batch, size_t model, float* hidden) const;
  Rows source_rows(const Batch& batch, int64_t width, float* hidden) const;
  void run_layer(size_t model, const BlockGraph& block, Rows& rows);
  std::vector<BlockWorkspace>& workspaces(const BlockGraph& block);

  std::span<const EvaluatedModel> models_;
  LockstepOptions options_;
  ThreadPool& pool_;
  ProgressMeter& meter_;

  PositionTables positions_;
  std::vector<std::vector<float>> memory_;  // by model: what its encoder made of the sources
  std::vector<ClampCount> clamps_;
  // Made once for each different shape, which are few.
  struct Workspaces {
    const BlockGraph* made_for = nullptr;
    std::vector<BlockWorkspace> of_worker;
  };
  std::vector<std::unique_ptr<Workspaces>> workspaces_;
};

}  // namespace pare
