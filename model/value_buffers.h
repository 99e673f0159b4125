// Where the values of a block lie while it runs: values whose lives do not overlap share a buffer.
//
// Buffer 0 is the caller's hidden states. It holds the block's input and, where the block adds to
// the residual stream, what becomes of it; never the output of a linear, which writes whole tiles.
#pragma once

#include <cstdint>
#include <vector>

#include "model/block_graph.h"

namespace pare {

struct BufferPlan {
  std::vector<int> buffer;      ///< Of each value; −1: none (the encoder's output)
  std::vector<int64_t> widths;  ///< Of each buffer; widths[0] is the hidden size.
};

BufferPlan plan_buffers(const BlockGraph& block);

/// Ops that read only the encoder's output, directly or not: they run once a sequence.
std::vector<bool> memory_side_ops(const BlockGraph& block);

/// Index of the kExperts op; ops.size() where there is none.
size_t experts_op(const BlockGraph& block);

/// Throws Error(kInternal) where a value other than the residual stream and the experts' input
/// would have to be kept while the experts run, or a linear comes behind them.
void check_experts_cut(const BlockGraph& block, const BufferPlan& plan);

}  // namespace pare
