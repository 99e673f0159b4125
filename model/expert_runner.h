// Runs the experts of a block over the tokens that chose them.
//
// Experts are loaded a few at a time, one a thread, and in order; a token's results are added in
// the order of its experts. So neither memory nor any sum depends on how many experts there are, or
// how many threads.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "core/thread_pool.h"
#include "formats/weight_source.h"
#include "model/block_runner.h"

namespace pare {

struct ExpertPass {
  /// The weights of an expert; called from several threads, for different experts.
  std::function<BlockWeights(int64_t expert)> load;
  /// After every few experts, with the share of them that this was; may be empty, may throw.
  std::function<void(double share)> progress;
};

/// tokens.output becomes the weighted sum of what the chosen experts make of tokens.input. Adds to
/// `clamps`.
void run_experts(const BlockGraph& block, const ExpertPass& pass, Precision precision,
                 ThreadPool& pool, ExpertRows& tokens, ClampCount& clamps);

/// Adds what one expert makes of the tokens that chose it to tokens.output, and to `clamps`.
void add_expert(const BlockGraph& expert, const BlockWeights& weights,
                const ExpertRows::Routed& routed, Precision precision, ThreadPool& pool,
                ExpertRows& tokens, ClampCount& clamps);

/// The experts of `block` as `source` has them, for run_experts().
std::function<BlockWeights(int64_t)> expert_loader(const BlockGraph& block,
                                                   const WeightSource& source, Precision precision);

/// Rows of `tokens.input` through one expert: out [rows, width]. At most kChunkTokens rows.
void run_expert(const BlockRunner& expert, const ExpertRows& tokens, std::span<const int64_t> rows,
                BlockWorkspace& workspace, const RunHooks& hooks, std::vector<float>& out);

}  // namespace pare
