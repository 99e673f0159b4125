// Runs many sequences through one layer, experts included.
//
//   run_layer(runner, {.sequences = sequences, .workspaces = workspaces, …}, pool, clamps);
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "core/thread_pool.h"
#include "model/block_runner.h"
#include "model/expert_runner.h"

namespace pare {

struct LayerCall {
  /// Their `experts` and `first_row` are set here.
  std::span<SequenceRun> sequences;
  std::span<BlockWorkspace> workspaces;  ///< One for each thread of the pool.
  /// Calls body(sequence, worker) for all, on the pool's threads; empty: just that.
  std::function<void(int64_t count, const std::function<void(int64_t, size_t)>& body)> for_each;
  /// What looks on at a sequence; may be empty.
  std::function<RunHooks(int64_t sequence)> hooks;
  ExpertPass experts;  ///< Needed where the block has some.
  Precision precision = Precision::kBf16;
};

/// Adds to `clamps` what the experts clamped; the workspaces count for themselves.
void run_layer(const BlockRunner& runner, const LayerCall& call, ThreadPool& pool,
               ClampCount& clamps);

/// Only what comes before the experts: their tokens, of all sequences.
ExpertRows run_to_experts(const BlockRunner& runner, const LayerCall& call, ThreadPool& pool);

/// Only what comes behind them.
void run_from_experts(const BlockRunner& runner, const LayerCall& call, ThreadPool& pool,
                      ExpertRows& tokens);

}  // namespace pare
