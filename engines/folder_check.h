// What the checks of all Hugging Face forms look at, and what they have in common.
#pragma once

#include <functional>
#include <map>
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
  std::set<std::string> unreadable;            ///< Linears that could not, which was said.
  /// Linears and the head that the files name otherwise than the graph: "model.layers.0…" is
  /// "language_model.model.layers.0…" in a larger model.
  std::map<std::string, std::string> other_names;

  /// The name of a linear in the files and in the configuration.
  const std::string& stored_name(const std::string& module) const {
    const auto other = other_names.find(module);
    return other == other_names.end() ? module : other->second;
  }
};

/// What "quant_method" says; "dense" where nothing is said, "unknown" where it says no name.
std::string form_of(const nlohmann::ordered_json& quantization);

/// Names each tensor that a quantized linear lacks beside those that it has, linears with tensors
/// of a quantized one that the configuration does not quantize, and of FP8 in blocks and MXFP4,
/// which are decoded when they are read, scales that are none.
void check_parts(const WeightSource& stored, const nlohmann::ordered_json& quantization,
                 EngineFindings& findings);

/// For each linear and the head whether the configuration and the tensors agree that it is
/// quantized. `mark` is the end of the name that quantized ones have, ".weight_scale". Engines run
/// a quantized head where the form says so itself.
void check_modules(const FolderContents& folder, const std::string& mark,
                   const std::function<bool(const std::string& module)>& is_to_be_quantized,
                   EngineFindings& findings, bool runs_head = false);

/// Whether engines run the linear as one with others beside it, by its name.
bool is_fused_shard(const std::string& module);

/// Linears that engines run as one (q, k, v; gate, up; all experts of a layer) have one scheme, or
/// none is quantized; those in `unreadable` are left out.
void check_fused(const ModelGraph& graph, const std::vector<SurveyedLinear>& linears,
                 const std::set<std::string>& unreadable, EngineFindings& findings);

/// The same for a survey. Throws Error(kInputMalformed), naming both.
void refuse_unlike_shards(const LinearSurvey& survey);

/// Whether tensor parallelism can cut the model: heads, outputs of linears behind a norm, inputs of
/// those behind attention or an activation, groups of scales, words of packed codes.
void check_split(const FolderContents& folder, const EngineCheckOptions& options,
                 EngineFindings& findings);

/// Limits of the kernels for FP8 in blocks.
void check_block_kernels(const FolderContents& folder, EngineFindings& findings);

/// Limits of the fast kernels for INT4 and INT8 weights, which are no refusals.
void check_weight_only_kernels(const FolderContents& folder, const EngineCheckOptions& options,
                               EngineFindings& findings);

// -- Forms ----------------------------------------------------------------------------------------

void check_compressed_tensors(const FolderContents& folder, EngineFindings& findings);
void check_awq(const FolderContents& folder, EngineFindings& findings);
void check_gptq(const FolderContents& folder, EngineFindings& findings);
void check_modelopt(const FolderContents& folder, EngineFindings& findings);

/// A Hugging Face folder in any of these forms, or not quantized: all checks. Returns its
/// form_of().
std::string check_hf_folder(const std::string& path, const EngineCheckOptions& options,
                            EngineFindings& findings);

}  // namespace pare
