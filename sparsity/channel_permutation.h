// An order of input channels for which 2:4 pruning keeps more: which channels should stand in one
// block of four (Zhang et al., "Plug-and-Play", ICLR 2024, section 3.3).
//
//   maximise over orders:  Σ_rows Σ_blocks (the two largest of the block's four scores)
//
// Heuristic channel allocation sorts the channels by the sum of their scores and deals them out to
// the blocks, so that important channels do not compete with one another. Linear sum assignment
// then takes one channel out of each block, in turn, and puts them back where they gain most; the
// others of a block being known, that problem is solved exactly. Beyond kMostBlocks blocks it is
// solved for parts of them, other parts each time, so time grows with in² and not in³.
//
//   std::vector<int32_t> order = order_for_two_of_four(score, units, width, pool_size, pool);
//
// No state; the result does not depend on the number of threads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/thread_pool.h"

namespace pare {

struct ChannelOrderOptions {
  int sweeps = 3;             ///< At most, of one assignment for each of a block's four places.
  double least_gain = 1e-4;   ///< A sweep that adds a smaller share is the last.
  int64_t most_blocks = 512;  ///< In one assignment.
};

/// score [units, width]: of each channel its scores in all rows, not negative; channels of one pool
/// of `pool_size` follow one another and stay among themselves. Returns for each place the channel
/// that comes there: a permutation within each pool. The sum that is kept is never less than in the
/// order given. REQUIRES: pool_size divisible by 4, units by pool_size.
std::vector<int32_t> order_for_two_of_four(std::span<const float> score, int64_t units,
                                           int64_t width, int64_t pool_size,
                                           const ChannelOrderOptions& options, ThreadPool& pool);

/// The sum of scores that 2:4 pruning keeps of channels in this order.
double kept_score(std::span<const float> score, int64_t width, std::span<const int32_t> order,
                  ThreadPool& pool);

}  // namespace pare
