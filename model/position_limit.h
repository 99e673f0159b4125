// How long sequences of a model may be because it looks positions up in a table.
//
//   require_positions(graph, "out/opt.h5", options.ctx, "ctx");
#pragma once

#include <cstdint>
#include <string>

#include "model/block_graph.h"

namespace pare {

/// Positions that the model's tables hold, of sources and targets alike; 0: there is no table, and
/// sequences may be of any length. (What it was trained on is ModelGraph::max_positions.)
int64_t position_limit(const ModelGraph& graph);

/// Throws Error(kUsage), naming `path` and both numbers, for sequences that are longer than the
/// tables; `what` names the length that is too large ("ctx").
void require_positions(const ModelGraph& graph, const std::string& path, int64_t length,
                       const std::string& what);

}  // namespace pare
