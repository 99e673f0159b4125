#include "engines/folder_check.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>

#include "engines/engine_export.h"
#include "pare/error.h"

namespace pare {
namespace {

// Names of linears beside each other that vLLM, SGLang and TensorRT-LLM run as one.
constexpr std::array<std::array<const char*, 3>, 3> kFused = {
    {{"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj", nullptr}, {"w1", "w3", nullptr}}};

}  // namespace

void check_modules(const FolderContents& folder, const std::string& mark,
                   const std::function<bool(const std::string&)>& is_to_be_quantized,
                   EngineFindings& findings) {
  std::vector<std::string> modules = linear_modules(folder.model.graph);
  const std::string& matrix = folder.model.graph.head.matrix;
  if (matrix != folder.model.graph.embedding.tokens) {
    modules.push_back(matrix.substr(0, matrix.rfind('.')));
  }
  for (const std::string& module : modules) {
    if (folder.unreadable.contains(module)) continue;
    const bool is_quantized = folder.stored->contains(module + mark);
    const bool is_dense = folder.stored->contains(module + ".weight") && !is_quantized;
    if (!is_quantized && !is_dense) continue;  // Another name, or a part of a tensor of experts.
    const bool expected = is_to_be_quantized(module);
    if (expected && is_dense) {
      findings.refuse(module, "is quantized by quantization_config, but has no tensor \"" + module +
                                  mark + "\"");
    } else if (!expected && is_quantized) {
      findings.refuse(module, "has a tensor \"" + module + mark +
                                  "\", but quantization_config leaves it alone");
    }
  }
  if (folder.stored->contains(matrix.substr(0, matrix.rfind('.')) + mark)) {
    findings.refuse(matrix,
                    "is the head, or the embedding that is the head as well: engines do "
                    "not run it quantized");
  }
}

void check_fused(const ModelGraph& graph, const std::vector<SurveyedLinear>& linears,
                 const std::set<std::string>& unreadable, EngineFindings& findings) {
  std::map<std::string, const SurveyedLinear*> quantized;
  for (const SurveyedLinear& linear : linears) quantized[linear.module] = &linear;
  const std::vector<std::string> modules = linear_modules(graph);
  const std::set<std::string> known(modules.begin(), modules.end());
  for (const std::string& module : modules) {
    for (const auto& shards : kFused) {
      const std::string first = std::string(".") + shards[0];
      if (!module.ends_with(first) || unreadable.contains(module)) continue;
      const std::string parent = module.substr(0, module.size() - first.size() + 1);
      const auto scheme_at = [&](const std::string& name) -> std::optional<LinearScheme> {
        const auto found = quantized.find(name);
        if (found == quantized.end()) return std::nullopt;
        return found->second->scheme;
      };
      for (size_t i = 1; i < shards.size() && shards[i] != nullptr; ++i) {
        const std::string other = parent + shards[i];
        if (!known.contains(other) || unreadable.contains(other) ||
            scheme_at(other) == scheme_at(module)) {
          continue;
        }
        const auto text = [](const std::optional<LinearScheme>& scheme) {
          return scheme ? scheme_text(*scheme) : "not quantized";
        };
        findings.refuse(other, "is " + text(scheme_at(other)) + " and \"" + module + "\" is " +
                                   text(scheme_at(module)) + ": engines run them as one linear");
      }
    }
  }
}

void refuse_unlike_shards(const LinearSurvey& survey) {
  EngineFindings findings;
  check_fused(survey.model.graph, survey.quantized, {}, findings);
  if (findings.refusals.empty()) return;
  const CheckFinding& first = findings.refusals.front();
  throw Error(ErrorCode::kInputMalformed,
              survey.model.source->path() + ": \"" + first.subject + "\" " + first.message);
}

}  // namespace pare
