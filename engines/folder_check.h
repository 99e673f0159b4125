// What the checks of all Hugging Face forms look at, and what they have in common.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "engines/engine_check.h"
#include "engines/linear_survey.h"
#include "model/block_graph.h"

namespace pare {

struct FolderContents {
  std::string path;
  nlohmann::ordered_json quantization;         ///< "quantization_config", or null.
  std::shared_ptr<const WeightSource> stored;  ///< All tensors as the files have them.
  ModelFiles model;                            ///< What pare makes of them.
  std::vector<SurveyedLinear> quantized;       ///< Linears that could be read.
  std::set<std::string> unreadable;            ///< Modules that could not, which was said.
};

/// Names each tensor that a quantized linear lacks beside those that it has, and linears with
/// tensors of a quantized one that the configuration does not quantize.
void check_parts(const WeightSource& stored, const nlohmann::ordered_json& quantization,
                 EngineFindings& findings);

/// For each linear and the head whether the configuration and the tensors agree that it is
/// quantized. `mark` is the end of the name that quantized ones have, ".weight_scale".
void check_modules(const FolderContents& folder, const std::string& mark,
                   const std::function<bool(const std::string& module)>& is_to_be_quantized,
                   EngineFindings& findings);

/// Linears that engines run as one (q, k, v; gate, up) have one scheme, or none is quantized; those
/// in `unreadable` are left out.
void check_fused(const ModelGraph& graph, const std::vector<SurveyedLinear>& linears,
                 const std::set<std::string>& unreadable, EngineFindings& findings);

/// The same for a survey. Throws Error(kInputMalformed), naming both.
void refuse_unlike_shards(const LinearSurvey& survey);

/// Whether tensor parallelism can cut the model: heads, outputs of linears behind a norm, inputs of
/// those behind attention or an activation, groups of scales, words of packed codes.
void check_split(const FolderContents& folder, const EngineCheckOptions& options,
                 EngineFindings& findings);

/// Limits of the fast kernels for INT4 and INT8 weights, which are no refusals.
void check_weight_only_kernels(const FolderContents& folder, const EngineCheckOptions& options,
                               EngineFindings& findings);

// -- Forms ----------------------------------------------------------------------------------------

void check_compressed_tensors(const FolderContents& folder, EngineFindings& findings);
void check_awq(const FolderContents& folder, EngineFindings& findings);
void check_gptq(const FolderContents& folder, EngineFindings& findings);
void check_modelopt(const FolderContents& folder, EngineFindings& findings);

/// A Hugging Face folder in any of these forms, or not quantized: all checks. Returns its form as
/// "quant_method" says it, "dense" where nothing is said.
std::string check_hf_folder(const std::string& path, const EngineCheckOptions& options,
                            EngineFindings& findings);

}  // namespace pare
