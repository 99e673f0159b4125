// Compresses a model layer by layer, encoder first, experts one by one, and writes each as soon as
// it is done.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "calib/token_source.h"
#include "core/progress_meter.h"
#include "core/thread_pool.h"
#include "formats/checkpoint_writer.h"
#include "formats/weight_source.h"
#include "model/block_graph.h"
#include "pare/quantize.h"
#include "pipeline/job_plan.h"
#include "pipeline/phase_times.h"
#include "pipeline/saved_statistics.h"
#include "pipeline/work_folder.h"

namespace pare {

/// References to what outlives the call.
struct CompressionJob {
  const ModelGraph& graph;
  const WeightSource& source;
  const JobPlan& plan;
  const TokenWindows& windows;  ///< Of the calibration; without it not used.
  const std::optional<WorkFolder>& work;
  CheckpointWriter& writer;
  const SavedStatistics* saved;  ///< Instead of calibrating; or null.
  StatisticsWriter* saver;       ///< Takes what calibration found; or null.
  ThreadPool& pool;
  ProgressMeter& meter;
  PhaseTimes& times;
};

/// Adds layers, experts and warnings to the report. Sets the meter's total. Returns the number of
/// pieces that the work folder now holds.
size_t compress_model(const CompressionJob& job, QuantizeReport& report);

}  // namespace pare
