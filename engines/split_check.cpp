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

// Whether another linear reads the value, through norms and slices at most: a latent vector, which
// every rank has whole.
bool feeds_linear(const BlockGraph& block, int value) {
  const std::vector<size_t> readers = readers_of(block, value);
  return std::any_of(readers.begin(), readers.end(), [&](size_t index) {
    const Op& op = block.ops[index];
    if (op.kind == OpKind::kLinear) return true;
    return (op.kind == OpKind::kNorm || op.kind == OpKind::kSlice) &&
           feeds_linear(block, op.output);
  });
}

// Outputs that are cut by themselves.
struct OutputPart {
  int64_t size = 0;
  int64_t kv_heads = 0;  ///< Of keys or values: ranks beyond that many repeat heads. 0: others
};

// How ranks share a linear.
struct Split {
  Shape shape;              ///< [out, in]
  bool inputs = false;      ///< Along in_features, else along out_features.
  bool replicated = false;  ///< Not at all.
  std::vector<OutputPart> parts;
};

using Splits = std::map<std::string, Split>;

// Queries, keys and values have parts of their own, also where one linear makes all three.
void add_attention(const BlockGraph& block, const Op& op, Splits& splits) {
  const AttentionShape& shape = block.attentions[static_cast<size_t>(op.detail)].shape;
  std::map<const Op*, std::vector<OutputPart>> parts;
  for (size_t i = 0; i < 3 && i < op.inputs.size(); ++i) {
    const Op* linear = linear_behind(block, op.inputs[i]);
    if (linear == nullptr) continue;
    const int64_t width = i == 2 ? shape.value_width() : shape.head_dim;
    const int64_t kv_heads = i == 0 ? 0 : shape.kv_heads;
    parts[linear].push_back({(i == 0 ? shape.heads : kv_heads) * width, kv_heads});
  }
  for (auto& [linear, found] : parts) {
    const auto split = splits.find(block.full_name(*linear));
    if (split == splits.end()) continue;
    int64_t total = 0;
    for (const OutputPart& part : found) total += part.size;
    if (total == split->second.shape[0]) split->second.parts = std::move(found);
  }
}

Splits splits_of(const ModelGraph& graph) {
  Splits splits;
  for_each_block(graph, [&](const BlockGraph& block) {
    for (const Op& op : block.ops) {
      if (op.kind != OpKind::kLinear || op.linear.keep) continue;
      const int64_t out = block.width(op.output);
      splits[block.full_name(op)] = {{out, block.width(op.inputs[0])},
                                     follows_heads(block, op.inputs[0]),
                                     feeds_linear(block, op.output),
                                     {{out, 0}}};
    }
    for (const Op& op : block.ops) {
      if (op.kind == OpKind::kAttention) add_attention(block, op, splits);
      if (op.kind != OpKind::kGatedActivation) continue;
      const Op* gate = linear_behind(block, op.inputs[0]);
      if (gate == nullptr || gate != linear_behind(block, op.inputs[1])) continue;
      const auto split = splits.find(block.full_name(*gate));
      if (split == splits.end()) continue;
      const int64_t half = split->second.shape[0] / 2;
      split->second.parts = {{half, 0}, {half, 0}};
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
  if (folder.stored->contains(folder.stored_name(linear.module) + ".qzeros")) return kNibbles;
  const bool pairs = linear.scheme.weight == WeightFormat::kInt4 &&
                     !folder.stored->contains(folder.stored_name(linear.module) + ".weight_packed");
  return pairs ? 2 : 1;
}

// What a cut must not go through.
struct Units {
  int64_t inputs = 1;   ///< That share a scale.
  int64_t outputs = 1;  ///< That share a word or a scale.
};

void check_inputs(const std::string& module, const Split& split, int64_t unit, int64_t ranks,
                  EngineFindings& findings) {
  const int64_t size = split.shape[1];
  if (size % ranks == 0 && size / ranks % unit == 0) return;
  findings.refuse(module, "has " + number(size) + " inputs, which " + number(ranks) +
                              " ranks cannot share" +
                              (unit > 1 ? " in groups of " + number(unit) + " of one scale" : ""));
}

void check_outputs(const std::string& module, const Split& split, int64_t unit, int64_t ranks,
                   EngineFindings& findings) {
  for (const OutputPart& part : split.parts) {
    const int64_t shares = part.kv_heads > 0 ? std::min(part.kv_heads, ranks) : ranks;
    if (part.size % shares == 0 && part.size / shares % unit == 0) continue;
    findings.refuse(module, "has " + number(part.size) + " outputs, which " + number(shares) +
                                " ranks cannot share" +
                                (unit > 1 ? " in groups of " + number(unit) : ""));
    return;
  }
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
    if (split.replicated) continue;
    Units units;
    if (const auto found = quantized.find(module); found != quantized.end()) {
      const SurveyedLinear& linear = *found->second;
      units = {std::max<int64_t>(linear.scheme.group_size, 1),
               std::max(packed_outputs(folder, linear), linear.scheme.block_rows)};
    }
    if (split.inputs) {
      check_inputs(module, split, units.inputs, ranks, findings);
    } else {
      check_outputs(module, split, units.outputs, ranks, findings);
    }
  }
}

void check_block_kernels(const FolderContents& folder, EngineFindings& findings) {
  const Splits splits = splits_of(folder.model.graph);
  std::vector<std::string> modules;
  for (const SurveyedLinear& linear : folder.quantized) {
    const auto split = splits.find(linear.module);
    if (linear.scheme.block_rows <= 1 || split == splits.end()) continue;
    const std::vector<OutputPart>& parts = split->second.parts;
    if (parts.size() == 1 && !is_fused_shard(linear.module)) continue;
    const bool fits = std::all_of(parts.begin(), parts.end(), [&](const OutputPart& part) {
      return part.size % linear.scheme.block_rows == 0;
    });
    if (!fits) modules.push_back(linear.module);
  }
  if (modules.empty()) return;
  findings.remark("kernels", number(static_cast<int64_t>(modules.size())) +
                                 " linears that engines run with others as one have outputs that "
                                 "are no multiple of a block, which vLLM refuses; use fp8_pc_pt. "
                                 "The first is \"" +
                                 modules.front() + "\"");
}

void check_weight_only_kernels(const FolderContents& folder, const EngineCheckOptions& options,
                               EngineFindings& findings) {
  // vLLM's Marlin kernels; others take over where they cannot run, and are slower.
  constexpr int64_t kOutputs = 64;
  constexpr int64_t kInputs = 128;
  constexpr std::array<int64_t, 4> kGroups = {kPerChannel, 32, 64, 128};
  const Splits splits = splits_of(folder.model.graph);
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
