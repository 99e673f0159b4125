// Decides and applies the compression of one block: scaling of inputs, pruning, rounding.
#pragma once

#include <map>

#include "calib/statistics.h"
#include "core/progress_meter.h"
#include "core/thread_pool.h"
#include "formats/weight_source.h"
#include "model/block_graph.h"
#include "pipeline/compressed_block.h"
#include "pipeline/job_plan.h"

namespace pare {

/// `statistics` by value number of the block; empty when the plan needs no calibration. Throws
/// Error(kNonFinite) naming the tensor for NaN or infinity in weights or activations,
/// Error(kInterrupted).
CompressedBlock compress_block(const BlockGraph& block, const WeightSource& source,
                               const JobPlan& plan, std::map<int, InputStatistics> statistics,
                               ThreadPool& pool, const ProgressMeter& meter);

}  // namespace pare
