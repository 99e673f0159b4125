#include "engines/folder_check.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>

#include "engines/engine_export.h"
#include "model/block_parameters.h"
#include "model/block_wiring.h"
#include "model/cache_tensors.h"
#include "pare/error.h"

namespace pare {
namespace {

// Names of linears beside each other that vLLM, SGLang and TensorRT-LLM run as one.
constexpr std::array<std::array<const char*, 3>, 3> kFused = {
    {{"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj", nullptr}, {"w1", "w3", nullptr}}};

std::string number(int64_t value) { return std::to_string(value); }

// Whether an input comes from attention or an activation: then its channels are cut among ranks.
bool follows_heads(const BlockGraph& block, int value) {
  const Op* maker = maker_of(block, value);
  while (maker != nullptr && (maker->kind == OpKind::kSlice || maker->kind == OpKind::kClamp)) {
    maker = maker_of(block, maker->inputs[0]);
  }
  return maker != nullptr &&
         (maker->kind == OpKind::kAttention || maker->kind == OpKind::kActivation ||
          maker->kind == OpKind::kGatedActivation);
}

struct Split {
  bool inputs = false;  // cut along in_features, else along out_features
};

std::map<std::string, Split> splits_of(const ModelGraph& graph) {
  std::map<std::string, Split> splits;
  for_each_block(graph, [&](const BlockGraph& block) {
    for (const Op& op : block.ops) {
      if (op.kind == OpKind::kLinear && !op.linear.keep) {
        splits[block.full_name(op)] = {follows_heads(block, op.inputs[0])};
      }
    }
  });
  return splits;
}

void check_heads(const ModelGraph& graph, int64_t ranks, EngineFindings& findings) {
  for_each_block(graph, [&](const BlockGraph& block) {
    for (const Op& op : block.ops) {
      if (op.kind != OpKind::kAttention) continue;
      const AttentionShape& shape = block.attentions[static_cast<size_t>(op.detail)].shape;
      const int64_t heads = shape.heads;
      const int64_t kv_heads = shape.kv_heads;
      const std::string subject = attention_name(block, op);
      if (heads % ranks != 0) {
        findings.refuse(subject, "has " + number(heads) + " heads, which " + number(ranks) +
                                     " ranks do not divide");
      } else if (kv_heads % ranks != 0 && ranks % kv_heads != 0) {
        findings.refuse(subject, "has " + number(kv_heads) + " heads of keys and values; " +
                                     number(ranks) + " ranks can neither share nor repeat them");
      }
    }
  });
}

// Outputs that codes are packed in, where that is more than one.
int64_t packed_outputs(const FolderContents& folder, const SurveyedLinear& linear) {
  constexpr int64_t kNibbles = 8;
  if (folder.stored->contains(linear.module + ".qzeros")) return kNibbles;
  const bool pairs = linear.scheme.weight == WeightFormat::kInt4 &&
                     !folder.stored->contains(linear.module + ".weight_packed");
  return pairs ? 2 : 1;
}

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
                 EngineFindings& findings) {
  std::map<std::string, const SurveyedLinear*> quantized;
  for (const SurveyedLinear& linear : linears) quantized[linear.module] = &linear;
  const std::vector<std::string> modules = linear_modules(graph);
  const std::set<std::string> known(modules.begin(), modules.end());
  for (const std::string& module : modules) {
    for (const auto& shards : kFused) {
      const std::string first = std::string(".") + shards[0];
      if (!module.ends_with(first)) continue;
      const std::string parent = module.substr(0, module.size() - first.size() + 1);
      const auto scheme_at = [&](const std::string& name) -> std::optional<LinearScheme> {
        const auto found = quantized.find(name);
        if (found == quantized.end()) return std::nullopt;
        return found->second->scheme;
      };
      for (size_t i = 1; i < shards.size() && shards[i] != nullptr; ++i) {
        const std::string other = parent + shards[i];
        if (!known.contains(other) || scheme_at(other) == scheme_at(module)) continue;
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
  check_fused(survey.model.graph, survey.quantized, findings);
  if (findings.refusals.empty()) return;
  const CheckFinding& first = findings.refusals.front();
  throw Error(ErrorCode::kInputMalformed,
              survey.model.source->path() + ": \"" + first.subject + "\" " + first.message);
}

void check_split(const FolderContents& folder, const EngineCheckOptions& options,
                 EngineFindings& findings) {
  const int64_t ranks = options.tp_size;
  if (ranks == 1) return;
  check_heads(folder.model.graph, ranks, findings);
  const std::map<std::string, Split> splits = splits_of(folder.model.graph);
  for (const SurveyedLinear& linear : folder.quantized) {
    const auto split = splits.find(linear.module);
    if (split == splits.end()) continue;
    const int64_t out = linear.shape[0];
    const int64_t in = linear.shape[1];
    const int64_t group = std::max<int64_t>(linear.scheme.group_size, 1);
    if (split->second.inputs && (in % ranks != 0 || in / ranks % group != 0)) {
      findings.refuse(linear.module,
                      "has " + number(in) + " inputs, which " + number(ranks) +
                          " ranks cannot share" +
                          (group > 1 ? " in groups of " + number(group) + " of one scale" : ""));
    }
    const int64_t unit = std::max(packed_outputs(folder, linear), linear.scheme.block_rows);
    if (!split->second.inputs && (out % ranks != 0 || out / ranks % unit != 0)) {
      findings.refuse(linear.module, "has " + number(out) + " outputs, which " + number(ranks) +
                                         " ranks cannot share" +
                                         (unit > 1 ? " in units of " + number(unit) : ""));
    }
  }
}

void check_weight_only_kernels(const FolderContents& folder, const EngineCheckOptions& options,
                               EngineFindings& findings) {
  // vLLM's Marlin kernels; others take over where they cannot run, and are slower.
  constexpr int64_t kOutputs = 64;
  constexpr int64_t kInputs = 128;
  constexpr std::array<int64_t, 4> kGroups = {kPerChannel, 32, 64, 128};
  const std::map<std::string, Split> splits = splits_of(folder.model.graph);
  size_t count = 0;
  std::string first;
  for (const SurveyedLinear& linear : folder.quantized) {
    const LinearScheme& scheme = linear.scheme;
    const bool weight_only =
        (scheme.weight == WeightFormat::kInt4 || scheme.weight == WeightFormat::kInt8) &&
        scheme.activation == ActivationFormat::kBf16;
    const auto split = splits.find(linear.module);
    if (!weight_only || split == splits.end()) continue;
    int64_t out = linear.shape[0];
    int64_t in = linear.shape[1];
    (split->second.inputs ? in : out) /= options.tp_size;
    const bool knows_group =
        std::find(kGroups.begin(), kGroups.end(), scheme.group_size) != kGroups.end();
    if (out % kOutputs == 0 && in % kInputs == 0 && knows_group) continue;
    if (count++ == 0) {
      first = "\"" + linear.module + "\", " + shape_text({out, in}) + ", " + scheme_text(scheme);
    }
  }
  if (count == 0) return;
  findings.remark("kernels", number(static_cast<int64_t>(count)) +
                                 " linears do not fit vLLM's Marlin kernels (outputs a multiple of "
                                 "64, inputs of 128, groups of 32, 64, 128 or a channel), the "
                                 "first is " +
                                 first);
}

}  // namespace pare
