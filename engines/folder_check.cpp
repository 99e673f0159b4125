#include "engines/folder_check.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "engines/engine_export.h"
#include "pare/error.h"

namespace pare {
namespace {

// Names of linears beside each other that vLLM, SGLang and TensorRT-LLM run as one.
constexpr std::array<std::array<const char*, 3>, 4> kFused = {
    {{"q_proj", "k_proj", "v_proj"},
     {"gate_proj", "up_proj", nullptr},
     {"w1", "w3", nullptr},
     {"q_a_proj", "kv_a_proj_with_mqa", nullptr}}};

constexpr std::string_view kExperts = ".experts.";

using Schemes = std::map<std::string, std::optional<LinearScheme>>;

// Says that two linears are unlike, where they are.
void compare(const std::string& first, const std::string& other, const Schemes& schemes,
             EngineFindings& findings) {
  const auto text = [](const std::optional<LinearScheme>& scheme) {
    return scheme ? scheme_text(*scheme) : "not quantized";
  };
  const auto& a = schemes.at(first);
  const auto& b = schemes.at(other);
  if (a == b) return;
  findings.refuse(other, "is " + text(b) + " and \"" + first + "\" is " + text(a) +
                             ": engines run them as one linear");
}

}  // namespace

void check_modules(const FolderContents& folder, const std::string& mark,
                   const std::function<bool(const std::string&)>& is_to_be_quantized,
                   EngineFindings& findings, bool runs_head) {
  std::vector<std::string> modules = linear_modules(folder.model.graph);
  const std::string& matrix = folder.model.graph.head.matrix;
  if (matrix != folder.model.graph.embedding.tokens) {
    modules.push_back(matrix.substr(0, matrix.rfind('.')));
  }
  for (const std::string& module : modules) {
    if (folder.unreadable.contains(module)) continue;
    const std::string& name = folder.stored_name(module);
    const bool is_quantized = folder.stored->contains(name + mark);
    const bool is_dense = folder.stored->contains(name + ".weight") && !is_quantized;
    if (!is_quantized && !is_dense) continue;  // A part of a tensor of all experts.
    const bool expected = is_to_be_quantized(name);
    if (expected && is_dense) {
      findings.refuse(
          name, "is quantized by quantization_config, but has no tensor \"" + name + mark + "\"");
    } else if (!expected && is_quantized) {
      findings.refuse(
          name, "has a tensor \"" + name + mark + "\", but quantization_config leaves it alone");
    }
  }
  const std::string head = matrix.substr(0, matrix.rfind('.'));
  if (!runs_head && folder.stored->contains(folder.stored_name(head) + mark)) {
    findings.refuse(folder.stored_name(head),
                    "is the head, or the embedding that is the head as well: engines do "
                    "not run it quantized");
  }
}

bool is_fused_shard(const std::string& module) {
  return std::any_of(kFused.begin(), kFused.end(), [&](const auto& shards) {
    return std::any_of(shards.begin(), shards.end(), [&](const char* shard) {
      return shard != nullptr && module.ends_with(std::string(".") + shard);
    });
  });
}

void check_fused(const ModelGraph& graph, const std::vector<SurveyedLinear>& linears,
                 const std::set<std::string>& unreadable, EngineFindings& findings) {
  Schemes schemes;
  for (const std::string& module : linear_modules(graph)) {
    if (!unreadable.contains(module)) schemes[module] = std::nullopt;
  }
  for (const SurveyedLinear& linear : linears) {
    if (schemes.contains(linear.module)) schemes[linear.module] = linear.scheme;
  }
  std::map<std::string, std::string> experts;  // Of each layer, the first.
  for (const auto& [module, scheme] : schemes) {
    if (const size_t at = module.find(kExperts); at != std::string::npos) {
      compare(experts.emplace(module.substr(0, at), module).first->second, module, schemes,
              findings);
      continue;
    }
    for (const auto& shards : kFused) {
      const std::string first = std::string(".") + shards[0];
      if (!module.ends_with(first)) continue;
      const std::string parent = module.substr(0, module.size() - first.size() + 1);
      for (size_t i = 1; i < shards.size() && shards[i] != nullptr; ++i) {
        const std::string other = parent + shards[i];
        if (schemes.contains(other)) compare(module, other, schemes, findings);
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
