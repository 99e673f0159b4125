#include "model/architectures.h"

#include <array>
#include <set>

#include "model/architectures/config_reader.h"
#include "model/architectures/llama.h"
#include "pare/error.h"

namespace pare {
namespace {

struct Architecture {
  const char* name;
  const char* model_type;
  const char* remark;
  ModelGraph (*describe)(const ConfigReader&);
};

constexpr std::array<Architecture, 3> kArchitectures = {{
    {"LlamaForCausalLM", "llama", "Llama 2 and 3.x, biases and odd head sizes included",
     describe_llama},
    {"MistralForCausalLM", "mistral", "Mistral, with or without sliding window", describe_mistral},
    {"Qwen2ForCausalLM", "qwen2", "Qwen2 and 2.5", describe_qwen2},
}};

const Architecture& find_architecture(const ConfigReader& config) {
  std::string wanted = config.text("model_type", "");
  const nlohmann::json names = config.json().value("architectures", nlohmann::json::array());
  if (names.is_array() && !names.empty() && names[0].is_string()) {
    wanted = names[0].get<std::string>();
  }
  for (const Architecture& known : kArchitectures) {
    if (wanted == known.name || wanted == known.model_type) return known;
  }
  if (config.has("auto_map")) {
    config.fail("architecture \"" + wanted +
                "\" needs Python code of its author (\"auto_map\"); "
                "pare does not run it");
  }
  std::string list;
  for (const Architecture& known : kArchitectures) list += std::string(" ") + known.name;
  config.fail("architecture \"" + wanted + "\" is not supported; known:" + list);
}

void check_shape(const WeightSource& source, const std::string& name, const Shape& expected) {
  if (!source.contains(name)) {
    throw Error(ErrorCode::kInputMalformed,
                source.path() + ": tensor \"" + name +
                    "\" is missing; config.json implies it with shape " + shape_text(expected));
  }
  const Shape found = source.shape(name);
  if (found != expected) {
    throw Error(ErrorCode::kInputMalformed, source.file_of(name) + ": tensor \"" + name +
                                                "\" has shape " + shape_text(found) +
                                                ", config.json implies " + shape_text(expected));
  }
}

}  // namespace

ModelGraph describe_model(const std::string& config_json, const std::string& origin) {
  const nlohmann::json json = nlohmann::json::parse(config_json, nullptr, false);
  if (!json.is_object()) {
    throw Error(ErrorCode::kInputMalformed, origin + ": is not a JSON object");
  }
  const ConfigReader config(json, origin);
  const Architecture& architecture = find_architecture(config);
  if (config.has("quantization_config")) {
    config.fail("the model is quantized already (\"quantization_config\"); give the original");
  }
  ModelGraph graph = architecture.describe(config);
  graph.architecture = architecture.name;
  return graph;
}

std::vector<std::string> check_tensors(const ModelGraph& graph, const WeightSource& source) {
  std::set<std::string> used;
  const auto check = [&](const std::string& name, const Shape& shape) {
    check_shape(source, name, shape);
    used.insert(name);
  };
  check(graph.embedding, {graph.vocab_size, graph.hidden_size});
  check(graph.head, {graph.vocab_size, graph.hidden_size});
  check(graph.final_norm, {graph.hidden_size});
  for (const BlockGraph& block : graph.blocks) {
    for (const Op& op : block.ops) {
      const std::string name = block.full_name(op);
      if (op.kind == OpKind::kRmsNorm) check(name + ".weight", {block.in_features(op)});
      if (op.kind != OpKind::kLinear) continue;
      check(name + ".weight", {block.out_features(op), block.in_features(op)});
      if (op.bias) check(name + ".bias", {block.out_features(op)});
    }
  }
  std::vector<std::string> unused;
  for (const std::string& name : source.names()) {
    if (!used.contains(name)) unused.push_back(name);
  }
  return unused;
}

std::vector<ArchitectureInfo> known_architectures() {
  std::vector<ArchitectureInfo> known;
  for (const Architecture& one : kArchitectures) known.push_back({one.name, one.remark});
  return known;
}

}  // namespace pare
