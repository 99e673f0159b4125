// Runs one block of a model over whole sequences.
//
//   BlockWeights weights = load_block(graph.blocks[3], source, Precision::kBf16);
//   PositionTables positions(sequence_length);
//   BlockRunner runner(graph.blocks[3], weights, positions, Precision::kBf16);
//   BlockWorkspace workspace(graph.blocks[3], {.length = sequence_length}, Precision::kBf16);
//   runner.run(hidden, tokens, workspace, {});
//
// A sequence runs on one thread, in chunks of tokens, in order (all at once where every token sees
// all others); different sequences may run on different threads, each with its workspace. Nothing
// in a sequence depends on other sequences.
//
// In a block with experts run() stops before them and leaves their tokens in an ExpertRows; when
// the experts have run over the tokens of all sequences (run_experts()), finish() does the rest.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/attention.h"
#include "model/block_graph.h"
#include "model/block_weights.h"
#include "model/expert_rows.h"
#include "model/linear.h"
#include "model/position_tables.h"
#include "model/sequence_state.h"
#include "model/value_buffers.h"

namespace pare {

/// Tokens in a row, and the position of the first. They attend to each other, causally, and to what
/// the workspace's state holds before that position; what was there from that position on is
/// forgotten.
struct Segment {
  int64_t rows = 0;
  int64_t position = 0;
};

/// Sees the input of each group of linears: (value number, index of the first row among the rows
/// that run() was given, rows, x [rows, width]). For the encoder's output, its rows.
using InputObserver = std::function<void(int value, int64_t first, int64_t rows, const float* x)>;

/// Sees the output of each linear and may change it, before anything reads it: (index into
/// BlockGraph::ops, rows, x [rows, in], y [rows, out]). Rows come in order, in chunks.
using OutputEditor = std::function<void(size_t op, int64_t rows, const float* x, float* y)>;

/// Sees the keys and values of an attention before they are rounded for its cache: (index into
/// BlockGraph::ops, rows, k [rows, kv_heads × head_dim], v [rows, kv_heads × value width]). Rows
/// come in order, in chunks.
using CacheObserver = std::function<void(size_t op, int64_t rows, const float* k, const float* v)>;

/// Tokens that run through a block together; chosen so that activations stay in the cache.
inline constexpr int64_t kChunkTokens = 256;

struct WorkspaceSize {
  int64_t length = 0;         ///< Positions are below it.
  int64_t rows = 0;           ///< In one run, of maybe several segments; 0: `length`
  int64_t memory_length = 0;  ///< Tokens of the encoder's output.
};

class BlockWorkspace {
 public:
  BlockWorkspace(const BlockGraph& block, const WorkspaceSize& size, Precision precision);

  /// What the block keeps of the sequence that ran last.
  SequenceState& state() noexcept { return state_; }

  /// What was clamped since the last call.
  ClampCount take_clamps() { return std::exchange(input_.clamps, {}); }

  /// Bytes that one takes.
  static int64_t memory_bytes(const BlockGraph& block, const WorkspaceSize& size,
                              Precision precision);

 private:
  friend class BlockRunner;
  std::vector<std::vector<float>> buffers_;  // by buffer number; 0 is not used
  SequenceState state_;
  AttentionScratch attention_;
  LinearInput input_;
  LinearInput adapter_input_;
  std::vector<float> adapter_low_;  // [padded rows, rank]
  std::vector<float> adapter_out_;  // [padded rows, out]
};

/// One for each of `count` threads.
std::vector<BlockWorkspace> make_workspaces(size_t count, const BlockGraph& block,
                                            const WorkspaceSize& size, Precision precision);

/// One sequence, or segments of one, on the way through a block.
struct SequenceRun {
  float* hidden = nullptr;  ///< [rows of all segments, hidden size], in place.
  std::span<const Segment> segments;
  const float* memory = nullptr;  ///< The encoder's output, [memory_rows, width].
  int64_t memory_rows = 0;
  ExpertRows* experts = nullptr;  ///< Where the block has some.
  int64_t first_row = 0;          ///< Of this sequence in `experts`.
};

/// What looks on, or steps in; each may be empty.
struct RunHooks {
  InputObserver observer;
  OutputEditor editor;
  CacheObserver cache = {};
};

class BlockRunner {
 public:
  /// Keeps references: graph, weights and tables must outlive it.
  BlockRunner(const BlockGraph& block, const BlockWeights& weights, PositionTables& positions,
              Precision precision);

  const BlockGraph& block() const noexcept { return block_; }
  bool has_experts() const noexcept { return experts_op_ < block_.ops.size(); }

  /// The whole block, or all before its experts. Segments run one after the other, packed into
  /// blocks of rows. So one sequence can branch: a common beginning, then its continuations, each
  /// at the position where the beginning ends. The first one goes on with what workspace.state()
  /// holds. REQUIRES: no segment leaves a gap of positions.
  void run(const SequenceRun& sequence, BlockWorkspace& workspace, const RunHooks& hooks) const;

  /// What follows the experts. REQUIRES: run() and run_experts() came before.
  void finish(const SequenceRun& sequence, BlockWorkspace& workspace, const RunHooks& hooks) const;

  /// A sequence from its beginning through a block without experts, hidden [tokens, hidden_size] in
  /// place. `observer` may be empty.
  void run(float* hidden, int64_t tokens, BlockWorkspace& workspace,
           const InputObserver& observer) const;

  /// Rows of their own, x [rows, hidden size] (which is written over), through a block without
  /// attention: out [rows, width of the output], which may differ from the hidden size. At most
  /// kChunkTokens rows.
  void apply(float* x, int64_t rows, BlockWorkspace& workspace, float* out) const;

 private:
  struct Chunk;
  struct Piece;
  struct ScanRows {
    const float *x, *dt, *b, *c;
    float* out;
    int64_t count;
  };
  void run_memory(const SequenceRun& sequence, BlockWorkspace& workspace,
                  const RunHooks& hooks) const;
  void run_ops(size_t begin, size_t end, Chunk& chunk) const;
  void run_op(size_t index, Chunk& chunk) const;
  void run_norm(size_t index, Chunk& chunk) const;
  void run_linear(size_t index, Chunk& chunk) const;
  void run_adapter(size_t index, Chunk& chunk) const;
  void run_rotary(const Op& op, Chunk& chunk) const;
  void run_attention(size_t index, Chunk& chunk) const;
  void fill_cache(size_t index, int64_t rows, const float* k, const float* v, Chunk& chunk) const;
  void run_over_time(size_t index, Chunk& chunk) const;
  void run_scan(size_t index, const ScanRows& rows, std::span<float> state) const;
  void leave_output(Chunk& chunk) const;

  const BlockGraph& block_;
  const BlockWeights& weights_;
  BufferPlan buffers_;
  std::vector<bool> memory_side_;
  size_t experts_op_;
  std::vector<const RotaryLookup*> rotary_;  // by index into BlockGraph::rotaries
  std::vector<AttentionTerms> terms_;        // by index into BlockGraph::attentions
  std::vector<Attention> attention_;
};

}  // namespace pare
