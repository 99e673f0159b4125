// What a quantize job will do, decided before any long work: the format of each linear, what it
// needs of calibration, and the memory it takes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/compressed_weight.h"
#include "formats/weight_source.h"
#include "model/block_graph.h"
#include "pare/quantize.h"
#include "quant/weight_grid.h"

namespace pare {

/// How the input of a linear is rescaled before its weight is rounded.
enum class ScalingMethod : uint8_t { kNone, kSmoothQuant, kAwq };

/// The algorithms that choose the numbers of a weight, one behind the other.
struct AlgorithmStack {
  ScalingMethod scaling = ScalingMethod::kNone;
  bool search_clip = false;
  bool gptq = false;              ///< Rounding that later columns make up for; else to nearest.
  bool descend = false;           ///< Codes that were solved for go on by coordinate descent.
  bool compensate_noise = false;  ///< Weights make up for the rounding of their input.

  bool operator==(const AlgorithmStack&) const = default;
};

/// One value of --qformat.
struct QFormat {
  std::string name;
  std::string remark;
  bool quantized = true;  ///< False: full precision.
  WeightFormat weight = WeightFormat::kBf16;
  ActivationFormat activation = ActivationFormat::kBf16;
  AlgorithmStack stack = {};         ///< Of --algo auto.
  int64_t group_size = kPerChannel;  ///< As CompressedWeight's; INT4 takes awq_block_size instead.
  int64_t block_rows = 1;
};

const std::vector<QFormat>& qformat_table();

/// Throws Error(kUsage) listing the known names.
const QFormat& find_qformat(const std::string& name);

/// The grid of a format's weights, but for what depends on the weights themselves.
GridSpec grid_spec(const QFormat& format, const QuantizeOptions& options);

/// How the input is rounded: int8_sq has both ways.
ActivationFormat input_activation(const QFormat& format, const QuantizeOptions& options);

enum class SparsityMethod : uint8_t { kNone, kMagnitude, kWanda, kRia, kSparseGpt, kAdmm };
SparsityMethod find_sparsity(const std::string& name);

/// "2:4 SparseGPT".
std::string sparsity_title(SparsityMethod method);

/// The stack of a value of --algo for a format. Throws Error(kUsage) for an unknown name, and, with
/// those that there are, for one that the format does not have.
AlgorithmStack find_stack(const std::string& algo, const QFormat& format);

/// What happens to one linear.
struct LinearPlan {
  const QFormat* format = nullptr;
  AlgorithmStack stack;
  SparsityMethod sparsity = SparsityMethod::kNone;

  /// Share of the correction for compressed inputs, of GPTAQ; 0: none.
  double gptaq_alpha = 0;

  bool changes() const { return format->quantized || sparsity != SparsityMethod::kNone; }
  bool operator==(const LinearPlan&) const = default;
};

struct JobPlan {
  QuantizeOptions options;                    ///< With the recipe applied.
  std::map<std::string, LinearPlan> linears;  ///< By full name, without ".weight".
  bool needs_calibration = false;
  bool needs_gram = false;
  CacheSpec cache;              ///< Of every attention that keeps keys and values.
  bool needs_original = false;  ///< What the uncompressed model has in place of each input.

  const LinearPlan& linear(const std::string& name) const { return linears.at(name); }
};

/// Applies the recipe file, resolves exclude and overrides, and checks everything that can be
/// checked without reading weights. Throws Error(kUsage) for options that are unknown, contradict
/// each other or match no layer, Error(kInputMalformed) for shapes that the scheme cannot hold,
/// naming the layer.
JobPlan make_plan(const QuantizeOptions& options, const ModelGraph& graph);

/// One warning for each option that differs from its default, or is named in explicit_options, and
/// that nothing in this job uses.
std::vector<std::string> options_without_effect(const JobPlan& plan);

/// The plan as it is stored in the checkpoint: everything that decides the numbers, nothing else.
std::string recipe_json(const JobPlan& plan, const std::string& text_sha256,
                        const std::string& ids_sha256);

/// Bytes that one linear will take when stored.
int64_t planned_bytes(const JobPlan& plan, const LinearPlan& linear, int64_t out_features,
                      int64_t in_features);

/// Peak memory of the job, from the options and the largest block.
int64_t planned_memory(const JobPlan& plan, const ModelGraph& graph, int64_t threads);

/// Tokens that run through an expert between two updates of its statistics.
inline constexpr int64_t kExpertBatchTokens = 8192;

/// Windows that run through a block between two updates of the statistics.
int64_t batch_windows(const QuantizeOptions& options, int64_t threads);

}  // namespace pare
