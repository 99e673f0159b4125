// Puts the channels of inputs in the order in which 2:4 pruning loses least, where the wiring lets
// it (model/channel_order.h): columns of the linears that read them, rows and biases of those
// before them, and the statistics, so that everything after this sees a model in that order.
#pragma once

#include <map>
#include <string>

#include "calib/statistics.h"
#include "core/progress_meter.h"
#include "core/thread_pool.h"
#include "formats/weight_source.h"
#include "model/block_graph.h"
#include "pipeline/compressed_block.h"
#include "pipeline/input_sharing.h"
#include "pipeline/job_plan.h"

namespace pare {

/// As QuantizeOptions::permute_channels says. `working` as it was loaded, without sets. Throws
/// Error(kInterrupted).
void permute_channels(const BlockGraph& block, const JobPlan& plan, WorkingBlock& working,
                      std::map<int, InputStatistics>& statistics, ThreadPool& pool,
                      const ProgressMeter& meter);

/// What a report says of a linear: `detail`, and whether its input is in another order.
std::string with_order(const std::string& detail, const WorkingLinear& linear);

/// The stored weight of a linear that stays as it is, in the order of its neighbours.
DenseTensor copy_permuted(const BlockGraph& block, const Op& op, const WorkingLinear& linear,
                          const WeightSource& source);

}  // namespace pare
