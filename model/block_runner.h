// Runs one block of a model over whole sequences.
//
//   BlockWeights weights = load_block(graph.blocks[3], source, Precision::kBf16);
//   BlockRunner runner(graph.blocks[3], weights, positions, Precision::kBf16);
//   BlockWorkspace workspace(graph.blocks[3], sequence_length, Precision::kBf16);
//   runner.run(hidden, tokens, workspace, {});
//
// A sequence runs on one thread, in chunks of tokens, in order; different sequences may run on
// different threads, each with its workspace. Nothing in a sequence depends on other sequences.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "formats/weight_source.h"
#include "kernels/attention.h"
#include "model/block_graph.h"
#include "model/linear.h"
#include "model/rotary_tables.h"

namespace pare {

/// Parameters of one block, by index into BlockGraph::ops.
struct BlockWeights {
  std::vector<Linear> linears;
  std::vector<std::vector<float>> norms;
};

/// Reads and packs the block's tensors. The mapped pages are released again.
BlockWeights load_block(const BlockGraph& block, const WeightSource& source, Precision precision);

/// One norm weight or bias as float; checks that it is finite (Error(kNonFinite) names it).
std::vector<float> load_vector(const WeightSource& source, const std::string& name);

/// Names of the tensors of a block.
std::vector<std::string> block_tensors(const BlockGraph& block);

/// Sees the input of each group of linears: (value number, first position, rows, x [rows, width]).
using InputObserver =
    std::function<void(int value, int64_t position, int64_t rows, const float* x)>;

/// Tokens that run through a block together; chosen so that activations stay in the cache.
inline constexpr int64_t kChunkTokens = 256;

class BlockWorkspace {
 public:
  BlockWorkspace(const BlockGraph& block, int64_t sequence_length, Precision precision);

  /// What was clamped since the last call.
  ClampCount take_clamps() { return std::exchange(input_.clamps, {}); }

 private:
  friend class BlockRunner;
  std::vector<std::vector<float>> values_;  // by value number; 0 is not used
  KeyValueCache cache_;
  AttentionScratch attention_;
  LinearInput input_;
};

class BlockRunner {
 public:
  /// Keeps references: graph, weights and table must outlive it.
  BlockRunner(const BlockGraph& block, const BlockWeights& weights, const RotaryTable& rotary,
              Precision precision);

  /// hidden [tokens, hidden_size], in place. `observer` may be empty.
  void run(float* hidden, int64_t tokens, BlockWorkspace& workspace,
           const InputObserver& observer) const;

 private:
  void run_chunk(float* hidden, int64_t position, int64_t rows, BlockWorkspace& workspace,
                 const InputObserver& observer) const;

  const BlockGraph& block_;
  const BlockWeights& weights_;
  const RotaryTable& rotary_;
  Attention attention_;
};

}  // namespace pare
