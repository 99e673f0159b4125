// The linears of a block as algorithms see them: weights in FP32, cut into sets that share an input
// and a format, with the scaling of that input and who absorbs it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "calib/statistics.h"
#include "core/progress_meter.h"
#include "core/tensor_view.h"
#include "core/thread_pool.h"
#include "formats/weight_source.h"
#include "model/input_groups.h"
#include "pipeline/job_plan.h"

namespace pare {

/// A norm weight while its block is worked on.
struct WorkingNorm {
  DType dtype = DType::kBf16;
  float weight_offset = 0;    ///< As in NormSpec: what multiplies is the weight plus this.
  std::vector<float> weight;  ///< As stored.
  DType bias_dtype = DType::kBf16;
  std::vector<float> bias;  ///< Empty: none.
};

struct WorkingLinear {
  std::string name;  ///< "model.layers.0.mlp.up_proj"
  LinearPlan plan;
  int64_t out_features = 0;
  int64_t in_features = 0;
  std::vector<float> weight;  ///< [out, in], rescaled as the scalings say.
  std::vector<float> bias;
  DType bias_dtype = DType::kBf16;
  std::vector<uint8_t> keep;  ///< Magnitude mask, made before any rescaling; or empty.
  int64_t adapter_rank = 0;   ///< Of a LoRA adapter beside it, which follows absorbed scales.
  std::vector<float> lora_a;  ///< [rank, in]
  std::vector<float> lora_b;  ///< [out, rank]
  /// Row r is row row_order[r] of the source, likewise columns; empty: as there.
  std::vector<int32_t> row_order;
  std::vector<int32_t> column_order;
};

/// Linears that share an input and are scaled alike.
struct SharingSet {
  int value = 0;
  std::vector<size_t> linears;  ///< Indices into BlockGraph::ops.
  std::vector<float> scale;     ///< [in] the input is divided by it; empty: ones.
  bool absorbed = false;        ///< By a norm or a linear; else it is stored.
  std::string detail;
  InputStatistics statistics;  ///< Of the scaled input; tokens = 0 without calibration.
};

struct WorkingBlock {
  std::map<size_t, WorkingNorm> norms;  ///< By index into BlockGraph::ops.
  std::map<size_t, WorkingLinear> linears;
  std::vector<SharingSet> sets;
};

/// Loads the block, searches the scalings and applies them to norms and weights.
WorkingBlock prepare_block(const BlockGraph& block, const WeightSource& source, const JobPlan& plan,
                           std::map<int, InputStatistics> statistics, ThreadPool& pool,
                           const ProgressMeter& meter);

}  // namespace pare
