// Which channels of the linears' inputs can trade places for free: derived from the wiring, the
// same way for every architecture.
//
// A linear does not care in what order its input channels come, if the columns of its weight come
// in the same order. Where everything between it and the linears before it works channel by
// channel, the rows of those can be reordered alike, and the block computes what it did before. So
// an order costs nothing when the model runs, and nothing has to be stored for it.
//
//   down_proj          rows of gate_proj and up_proj, any order
//   o_proj             rows of v_proj, within a head of values; alike for all heads that read it
//   q_b_proj (MLA)     rows of q_a_proj and the weight of the norm between, any order
//   what reads the residual stream: none, for all blocks see it
#pragma once

#include <cstdint>
#include <vector>

#include "model/block_graph.h"

namespace pare {

/// A linear or a norm whose rows follow the order of an input.
struct ChannelSource {
  size_t op = 0;             ///< Index into BlockGraph::ops.
  std::vector<int32_t> row;  ///< Channel i of the input comes from row (of a norm: channel) row[i].
};

/// An input whose channels can trade places. Pool p, copy c, member m is the channel
/// begin[p * copies + c] + m: members of one pool can trade places, in all its copies alike,
/// because one row of a source feeds them all.
struct ReorderableInput {
  int value = 0;
  int64_t in_features = 0;
  std::vector<size_t> linears;  ///< All that read the value; indices into BlockGraph::ops.
  int64_t pool_size = 0;        ///< Members of a pool, divisible by 4.
  int64_t copies = 1;
  std::vector<int64_t> begin;  ///< First channels, [pools * copies]; divisible by 4.
  std::vector<ChannelSource> sources;

  int64_t pools() const { return static_cast<int64_t>(begin.size()) / copies; }
};

/// In the order in which the inputs are made. Pools that blocks of four channels would straddle are
/// left out.
std::vector<ReorderableInput> reorderable_inputs(const BlockGraph& block);

/// `unit_order` puts member unit_order[u] in the place of member u, both counted as
/// pool * pool_size + member. Returns the same for channels: [in_features].
std::vector<int32_t> channel_order(const ReorderableInput& input,
                                   const std::vector<int32_t>& unit_order);

/// The order of a source's rows: row r gives way to row result[r]. `rows`: how many it has.
std::vector<int32_t> row_order(const ChannelSource& source, int64_t rows,
                               const std::vector<int32_t>& channel_order);

}  // namespace pare
