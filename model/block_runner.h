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
#include <span>
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

/// The linear of one op of the block, packed. Does not release the mapped pages.
Linear load_linear(const BlockGraph& block, const Op& op, const WeightSource& source,
                   Precision precision);

/// One norm weight or bias as float; checks that it is finite (Error(kNonFinite) names it).
std::vector<float> load_vector(const WeightSource& source, const std::string& name);

/// Names of the tensors of a block.
std::vector<std::string> block_tensors(const BlockGraph& block);

/// Tokens in a row, and the position of the first. They attend to each other, causally, and to what
/// is in the cache before that position; what was there from that position on is forgotten.
struct Segment {
  int64_t rows = 0;
  int64_t position = 0;
};

/// Sees the input of each group of linears: (value number, index of the first row among the rows
/// that run() was given, rows, x [rows, width]).
using InputObserver = std::function<void(int value, int64_t first, int64_t rows, const float* x)>;

/// Sees the output of each linear and may change it, before anything reads it: (index into
/// BlockGraph::ops, rows, x [rows, in], y [rows, out]). Rows come in order, in chunks.
using OutputEditor = std::function<void(size_t op, int64_t rows, const float* x, float* y)>;

/// Tokens that run through a block together; chosen so that activations stay in the cache.
inline constexpr int64_t kChunkTokens = 256;

class BlockWorkspace {
 public:
  /// For positions below `sequence_length`, and as many rows in a run.
  BlockWorkspace(const BlockGraph& block, int64_t sequence_length, Precision precision)
      : BlockWorkspace(block, sequence_length, sequence_length, precision) {}
  /// The same for runs of up to `max_rows` rows, which may be segments of several sequences.
  BlockWorkspace(const BlockGraph& block, int64_t sequence_length, int64_t max_rows,
                 Precision precision);

  /// Keys and values of the sequence that ran last.
  KeyValueCache& cache() noexcept { return cache_; }

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

  /// A sequence from its beginning: hidden [tokens, hidden_size], in place. `observer` may be
  /// empty.
  void run(float* hidden, int64_t tokens, BlockWorkspace& workspace,
           const InputObserver& observer) const;

  /// Segments one after the other, hidden [rows of all, hidden_size] in place, packed into blocks
  /// of rows. So one sequence can branch: a common beginning, then its continuations, each at the
  /// position where the beginning ends. The first one goes on with what workspace.cache() holds.
  /// REQUIRES: no segment leaves a gap of positions in the cache.
  void run(float* hidden, std::span<const Segment> segments, BlockWorkspace& workspace,
           const InputObserver& observer) const;

  /// A sequence from its beginning, as above, with what `editor` makes of the linears' outputs.
  void run_edited(float* hidden, int64_t tokens, BlockWorkspace& workspace,
                  const OutputEditor& editor) const;

 private:
  struct Hooks {
    const InputObserver& observer;
    const OutputEditor& editor;
  };
  void run_segments(float* hidden, std::span<const Segment> segments, BlockWorkspace& workspace,
                    const Hooks& hooks) const;
  void run_chunk(float* hidden, int64_t first, std::span<const Segment> pieces,
                 BlockWorkspace& workspace, const Hooks& hooks) const;

  struct AttentionValues {
    const float* q = nullptr;
    const float* k = nullptr;
    const float* v = nullptr;
    float* out = nullptr;
  };
  void attend(std::span<const Segment> pieces, AttentionValues values,
              BlockWorkspace& workspace) const;

  const BlockGraph& block_;
  const BlockWeights& weights_;
  const RotaryTable& rotary_;
  Attention attention_;
};

}  // namespace pare
