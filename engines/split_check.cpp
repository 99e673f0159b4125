// What tensor parallelism and the kernels behind it ask of the shapes of linears.
#include <algorithm>
#include <array>
#include <map>

#include "engines/folder_check.h"
#include "model/block_parameters.h"
#include "model/block_wiring.h"
#include "model/cache_tensors.h"

namespace pare {
namespace {

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

// The linear that a value comes from, through norms, rotation and slices.
const Op* linear_behind(const BlockGraph& block, int value) {
  const Op* maker = maker_of(block, value);
  while (maker != nullptr && maker->kind != OpKind::kLinear) {
    maker = maker->inputs.empty() ? nullptr : maker_of(block, maker->inputs[0]);
  }
  return maker;
}

struct Split {
  bool inputs = false;      ///< Cut along in_features, else along out_features.
  bool transposed = false;  ///< Where it is stored densely.
  int64_t kv_heads = 0;     ///< Of keys or values alone: ranks beyond that many repeat heads.
};

std::map<std::string, Split> splits_of(const ModelGraph& graph) {
  std::map<std::string, Split> splits;
  for_each_block(graph, [&](const BlockGraph& block) {
    for (const Op& op : block.ops) {
      if (op.kind == OpKind::kLinear && !op.linear.keep) {
        splits[block.full_name(op)] = {follows_heads(block, op.inputs[0]), op.linear.transposed};
      }
    }
    for (const Op& op : block.ops) {
      if (op.kind != OpKind::kAttention) continue;
      const Op* queries = linear_behind(block, op.inputs[0]);
      for (size_t i = 1; i < 3 && i < op.inputs.size(); ++i) {
        const Op* linear = linear_behind(block, op.inputs[i]);
        if (linear == nullptr || linear == queries) continue;
        const auto split = splits.find(block.full_name(*linear));
        if (split == splits.end()) continue;
        split->second.kv_heads = block.attentions[static_cast<size_t>(op.detail)].shape.kv_heads;
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

// What a cut must not go through.
struct Units {
  int64_t inputs = 1;   ///< That share a scale.
  int64_t outputs = 1;  ///< That share a word or a scale.
};

void check_linear(const std::string& module, const Shape& shape, const Split& split,
                  const Units& units, int64_t ranks, EngineFindings& findings) {
  const int64_t size = shape[split.inputs ? 1 : 0];
  const int64_t unit = std::max<int64_t>(split.inputs ? units.inputs : units.outputs, 1);
  const int64_t parts =
      !split.inputs && split.kv_heads > 0 && split.kv_heads < ranks ? split.kv_heads : ranks;
  if (size % parts == 0 && size / parts % unit == 0) return;
  const char* what = split.inputs ? " inputs, which " : " outputs, which ";
  const char* one = split.inputs ? " of one scale" : "";
  findings.refuse(module, "has " + number(size) + what + number(parts) + " ranks cannot share" +
                              (unit > 1 ? " in groups of " + number(unit) + one : ""));
}

}  // namespace

void check_split(const FolderContents& folder, const EngineCheckOptions& options,
                 EngineFindings& findings) {
  const int64_t ranks = options.tp_size;
  if (ranks == 1) return;
  check_heads(folder.model.graph, ranks, findings);
  std::map<std::string, const SurveyedLinear*> quantized;
  for (const SurveyedLinear& linear : folder.quantized) quantized[linear.module] = &linear;
  for (const auto& [module, split] : splits_of(folder.model.graph)) {
    const auto found = quantized.find(module);
    if (found != quantized.end()) {
      const SurveyedLinear& linear = *found->second;
      const Units units = {linear.scheme.group_size,
                           std::max(packed_outputs(folder, linear), linear.scheme.block_rows)};
      check_linear(module, linear.shape, split, units, ranks, findings);
      continue;
    }
    const std::string name = module + ".weight";
    const WeightSource& source = *folder.model.source;
    if (!source.contains(name) || source.is_compressed(name)) continue;
    Shape shape = source.shape(name);
    if (shape.size() != 2) continue;
    if (split.transposed) std::swap(shape[0], shape[1]);
    check_linear(module, shape, split, {}, ranks, findings);
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
