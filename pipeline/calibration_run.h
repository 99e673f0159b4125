// The calibration tokens on their way through the model, layer by layer.
//
// For each block: observe() runs them through the original and gathers statistics of its linears'
// inputs; advance() runs them through what became of it. Experts are done one at a time in between:
// observe_expert(), then advance_expert(), then finish() for the whole layer.
//
//   CalibrationRun run(graph, source, windows, options, pool, meter);
//   run.start(Stack::kDecoder);
//   auto statistics = run.observe(block, original, watched);
//   run.advance(block, compressed);
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "calib/statistics.h"
#include "calib/statistics_collector.h"
#include "calib/token_source.h"
#include "core/progress_meter.h"
#include "core/thread_pool.h"
#include "formats/weight_source.h"
#include "model/block_graph.h"
#include "model/block_runner.h"
#include "model/layer_runner.h"
#include "pipeline/job_plan.h"

namespace pare {

enum class Stack : uint8_t { kEncoder, kDecoder };

/// What an expert was calibrated on.
struct ExpertTokens {
  int64_t routed = 0;  ///< Tokens that chose it.
  int64_t added = 0;   ///< Others of the layer, taken because those were too few, or all asked for.
};

class CalibrationRun {
 public:
  /// Keeps references.
  CalibrationRun(const ModelGraph& graph, const WeightSource& source, const TokenWindows& windows,
                 const JobPlan& plan, ThreadPool& pool, ProgressMeter& meter);

  /// Embeds the tokens of a stack. The decoder's start takes over what the encoder made.
  void start(Stack stack);

  /// Statistics of the watched values of the original block.
  std::map<int, InputStatistics> observe(const BlockGraph& block, const BlockWeights& original,
                                         std::vector<WatchedValue> watched);

  /// Instead of observe() for a block that is compressed already: the uncompressed model's tokens,
  /// where they are kept, go through it.
  void pass(const BlockGraph& block, const BlockWeights& original);

  /// Runs copies of the tokens through a block without experts, in the place of the current one,
  /// for what `observer` of each sequence sees at its attentions.
  void look_through(const BlockGraph& block, const BlockWeights& weights,
                    const std::function<CacheObserver(int64_t sequence)>& observer);

  /// The same for an expert; after observe() of its block.
  std::map<int, InputStatistics> observe_expert(const BlockGraph& block, int64_t expert,
                                                const BlockWeights& original,
                                                std::vector<WatchedValue> watched,
                                                ExpertTokens& tokens);

  /// Through the compressed block, or to its experts.
  void advance(const BlockGraph& block, const BlockWeights& compressed);

  /// Adds what the compressed expert makes of its tokens. In the order of experts.
  void advance_expert(const BlockGraph& block, int64_t expert, const BlockWeights& compressed);

  /// Behind the experts.
  void finish(const BlockGraph& block, const BlockWeights& compressed);

  /// Sequences that run between two updates of the statistics.
  int64_t batch() const { return batch_; }
  int64_t sequences() const { return static_cast<int64_t>(segments_.size()); }
  int64_t tokens() const { return begin_.back(); }

 private:
  void embed(const EmbeddingSpec& embedding, std::span<const int32_t> ids, int64_t width);
  void set_segments(Stack stack);
  // Where the tokens of one model have come to.
  struct Tokens {
    std::vector<float> hidden;  // [rows, width]
    std::vector<float> memory;  // what the encoder made of the sources
  };
  std::vector<SequenceRun> runs(int64_t first, int64_t count, float* hidden,
                                const std::vector<float>& memory) const;
  std::vector<SequenceRun> runs(int64_t first, int64_t count, Tokens& tokens) const;
  // The sequences of a batch that begins with `first`, to the experts where there are some.
  void run_batch(const BlockRunner& runner, std::vector<SequenceRun> batch, int64_t first,
                 ExpertRows& experts, std::vector<BlockWorkspace>& scratch,
                 const std::function<InputObserver(int64_t)>& observer);
  // All sequences, from the experts on.
  void finish_all(const BlockRunner& runner, Tokens& tokens, ExpertRows& experts,
                  std::vector<BlockWorkspace>& scratch);
  // The uncompressed model's, through the experts and from there on.
  void finish_original(const BlockRunner& runner, ExpertRows& experts,
                       std::vector<BlockWorkspace>& scratch);
  std::vector<BlockWorkspace> workspaces(const BlockGraph& block) const;
  int64_t rows_of(int64_t first, int64_t count) const {
    return begin_[static_cast<size_t>(first + count)] - begin_[static_cast<size_t>(first)];
  }
  std::vector<int64_t> expert_rows(const BlockGraph& graph, int64_t expert,
                                   ExpertTokens& tokens) const;
  int64_t source_tokens() const { return static_cast<int64_t>(windows_.sources.ids.size()); }

  const ModelGraph& graph_;
  const WeightSource& source_;
  const TokenWindows& windows_;
  const QuantizeOptions& options_;
  bool needs_gram_;
  ThreadPool& pool_;
  ProgressMeter& meter_;
  int64_t batch_ = 1;
  PositionTables positions_;
  int64_t width_ = 0;              // of the stack that runs
  std::vector<Segment> segments_;  // one a sequence
  std::vector<int64_t> begin_;     // rows before each sequence; one more than sequences
  Tokens tokens_;
  std::optional<Tokens> original_;             // of the uncompressed model, where it matters
  std::optional<ExpertRows> original_tokens_;  // of the layer that runs
  std::vector<ExpertRows::Routed> routed_;     // by the original router
  std::optional<ExpertRows> compressed_tokens_;
  std::vector<ExpertRows::Routed> advanced_;  // by the router after compression
};

}  // namespace pare
