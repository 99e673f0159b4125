// A model under evaluation: its tensors, its graph, and what a report says about it.
//
//   EvaluatedModel model = open_model("llama-int4.h5");
//   ModelResult result = describe(model);
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "formats/weight_source.h"
#include "model/block_graph.h"
#include "pare/evaluate.h"

namespace pare {

/// Copies share the tensors.
struct EvaluatedModel {
  std::string name;  ///< For reports and messages: the file's or folder's name without ".h5".
  std::shared_ptr<const WeightSource> source;
  ModelGraph graph;
  std::vector<std::string> unused;  ///< Tensors that the graph does not use.
};

/// Opens a model and checks that it has every tensor. Throws pare::Error as open_weight_source(),
/// describe_model() and check_tensors() do. With `adapter`, a folder in PEFT's form, it is the
/// model with that adapter: merged into the weights, or beside them where the model is compressed,
/// as engines run it; throws as LoraAdapter::open(), make_merged_source() and make_beside_source()
/// do.
EvaluatedModel open_model(const std::string& path, const std::string& adapter = "");

/// "models/base/" → "base", "out/base-int4.h5" → "base-int4".
std::string model_name(const std::string& path);

/// How the quantizer rotated the model's residual stream, from its recipe: "residual, seed 0";
/// "none".
std::string rotation_of(const EvaluatedModel& model);

/// What a report calls weights that are not compressed: "bf16", "fp16", "fp32".
std::string dense_qformat(DType dtype);

/// Everything of a ModelResult but the measurements. Reads the whole model, for its digest.
ModelResult describe(const EvaluatedModel& model);

/// SHA-256 of the text that the model was calibrated on, from its recipe; empty when unknown.
std::string calibration_text_sha256(const EvaluatedModel& model);

/// Whether its recipe says that input channels may have been put in another order.
bool may_be_permuted(const EvaluatedModel& model);

/// config.json's "bos_token_id"; empty when there is none.
std::vector<int32_t> bos_tokens(const EvaluatedModel& model);

}  // namespace pare
