// What is checked of the input model and the output path before hours of work begin.
#pragma once

#include "core/progress_meter.h"
#include "core/thread_pool.h"
#include "formats/weight_source.h"
#include "model/block_graph.h"
#include "pare/quantize.h"

namespace pare {

/// Throws Error(kNonFinite) naming file and tensor when a weight holds NaN or infinity, and
/// Error(kInputMalformed) when a weight is compressed already or not floating-point.
void check_source_finite(const ModelGraph& graph, const WeightSource& source, ThreadPool& pool,
                         ProgressMeter& meter);

/// Throws Error(kUsage) when the output is missing or is the model itself, Error(kWriteFailed)
/// when it exists and `force` is not set, its folder does not exist or cannot be written to, or
/// fewer than `planned_bytes` are free there.
void check_output(const QuantizeOptions& options, int64_t planned_bytes);

}  // namespace pare
