#include "model/rotate_model.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "kernels/hadamard.h"
#include "model/architectures.h"
#include "model/rotated_source.h"
#include "model/rotation_plan.h"
#include "pare/error.h"

namespace pare {
namespace {

// config.json, keys in their order, of the model with a head of its own.
std::string untied_config(const std::string& config_json) {
  auto json = nlohmann::ordered_json::parse(config_json);
  json["tie_word_embeddings"] = false;
  return json.dump(2);
}

}  // namespace

RotatedModel rotate_model(const ModelFiles& model, const RotationSpec& spec,
                          const std::set<std::string>& in_f32) {
  const std::string& path = model.source->path();
  const std::string& embedding = model.graph.embedding.tokens;
  const bool tied = model.graph.head.matrix == embedding;
  RotatedSourceOptions options{spec.seed, model.source->config_json(), in_f32};
  std::string head = model.graph.head.matrix;
  if (tied) {
    options.config_json = untied_config(options.config_json);
    const ModelGraph untied = describe_model(options.config_json, path + "/config.json");
    head = untied.head.matrix == embedding ? "" : untied.head.matrix;
  }
  RotationPlan plan = plan_rotation(model.graph, head, spec.heads, path);
  if (head.empty()) {
    throw Error(ErrorCode::kUsage, path + ": the head of " + model.graph.architecture +
                                       " is its embedding and cannot be rotated apart from it; "
                                       "quantize without rotate");
  }
  RotatedModel rotated;
  rotated.description = "width " + std::to_string(plan.width) + " as " +
                        HadamardRotation(plan.width, spec.seed).describe();
  rotated.attentions = plan.attentions;
  rotated.rotated_attentions = plan.rotated_attentions;
  rotated.model.graph = model.graph;
  rotated.model.graph.head.matrix = head;
  rotated.model.source = make_rotated_source(model.source, std::move(plan), std::move(options));
  rotated.model.unused = check_tensors(rotated.model.graph, *rotated.model.source);
  if (tied) rotated.untied_bytes = rotated.model.source->stored_bytes(head);
  return rotated;
}

}  // namespace pare
