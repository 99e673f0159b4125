// Who makes the values of a block, and who reads them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "model/block_graph.h"

namespace pare {

/// The op that makes a value; none for what comes from outside the block.
std::optional<size_t> writer_of(const BlockGraph& block, int value);

/// The same op itself; null for what comes from outside the block.
const Op* maker_of(const BlockGraph& block, int value);

/// All ops with the value among their inputs, in order.
std::vector<size_t> readers_of(const BlockGraph& block, int value);

/// Whether nobody but the reader sees `channels` of `value`: others may look at other channels.
bool is_private(const BlockGraph& block, int value, size_t reader,
                const std::vector<int32_t>& channels);

}  // namespace pare
