// The tokens that go through the experts of a block: of all sequences of a run, row by row.
//
// Filled by BlockRunner::run(), summed up by run_experts(), read by BlockRunner::finish().
// Different rows may be written from different threads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/block_graph.h"

namespace pare {

struct ExpertRows {
  int64_t rows = 0;
  int64_t width = 0;
  int64_t chosen = 0;
  std::vector<float> input;      ///< [rows, width]
  std::vector<int32_t> experts;  ///< [rows, chosen]
  std::vector<float> weights;    ///< [rows, chosen]
  std::vector<float> output;     ///< [rows, width], the weighted sum

  /// Nothing for a block without experts.
  ExpertRows(const BlockGraph& block, int64_t rows);

  /// Takes in `count` tokens from row `first` on: x [count, width] and the router's logits. Throws
  /// Error(kNonFinite) for NaN or infinity among those.
  void set(const ExpertsSpec& spec, std::span<const float> correction, int64_t first, int64_t count,
           const float* x, const float* logits);

  /// Rows whose tokens chose `expert`, ascending, with their weights.
  struct Routed {
    std::vector<int64_t> rows;
    std::vector<float> weights;
  };
  /// By expert.
  std::vector<Routed> routed(int64_t experts_of_block) const;

  /// Bytes that they take, with the lists of routed().
  static int64_t memory_bytes(const BlockGraph& block, int64_t rows);
};

/// The experts of one token from the router's logits [count], by the rule of the architecture;
/// `correction` is [count] or empty. Of equal scores the first wins.
void choose_experts(const ExpertsSpec& spec, std::span<const float> logits,
                    std::span<const float> correction, std::span<int32_t> experts,
                    std::span<float> weights);

}  // namespace pare
