#include "model/model_files.h"

#include <algorithm>
#include <map>

#include "formats/beside_source.h"
#include "formats/lora_adapter.h"
#include "formats/merged_source.h"
#include "formats/named_source.h"
#include "formats/resolve_names.h"
#include "model/architectures.h"
#include "model/block_parameters.h"
#include "pare/error.h"

namespace pare {
namespace {

using Names = std::map<std::string, StoredTensor>;

// A parameter of one expert in the tensor that holds those of all.
StoredTensor part_of(const WeightSource& source, const std::string& stored, int64_t expert,
                     const FusedExperts& fused) {
  const StoredTensor whole = index_part(whole_tensor(source, stored), expert);
  if (fused.parts == 1) return whole;
  const int64_t rows = whole.shape[0] / fused.parts;
  return range_part(whole, fused.part * rows, (fused.part + 1) * rows);
}

void find_fused_experts(const BlockGraph& block, const WeightSource& source, Names& names) {
  if (!block.experts) return;
  for (const FusedExperts& fused : block.experts->fused) {
    const std::string stored = block.prefix + fused.stored;
    if (!source.contains(stored)) continue;
    for (int64_t expert = 0; expert < block.experts->count; ++expert) {
      const std::string name = block.prefix + block.experts->expert_prefix +
                               std::to_string(expert) + "." + fused.parameter;
      if (!source.contains(name)) names[name] = part_of(source, stored, expert, fused);
    }
  }
}

bool is_adapter(const std::string& name) {
  return name.ends_with(kLoraASuffix) || name.ends_with(kLoraBSuffix);
}

std::vector<std::string> wanted_names(const ModelGraph& graph, const WeightSource& source) {
  // Factors beside a linear are renamed with it.
  const bool adapted = std::any_of(source.names().begin(), source.names().end(), is_adapter);
  std::vector<std::string> wanted;
  const auto add = [&](const std::vector<Parameter>& parameters) {
    for (const Parameter& parameter : parameters) {
      wanted.push_back(parameter.name);
      if (!adapted || !parameter.weight) continue;
      const std::string linear = parameter.name.substr(0, parameter.name.rfind('.'));
      wanted.push_back(linear + kLoraASuffix);
      wanted.push_back(linear + kLoraBSuffix);
    }
  };
  add(outer_parameters(graph));
  for_each_block(graph, [&](const BlockGraph& block) { add(block_parameters(block)); });
  return wanted;
}

void find_adapters(std::vector<BlockGraph>& blocks, const WeightSource& source) {
  for (BlockGraph& block : blocks) {
    for (Op& op : block.ops) {
      const std::string name = block.full_name(op) + kLoraASuffix;
      if (op.kind != OpKind::kLinear || !source.contains(name)) continue;
      op.linear.adapter_rank = source.shape(name)[0];
    }
  }
}

// Adapters that stand beside their linears.
void find_adapters(ModelGraph& graph, const WeightSource& source) {
  find_adapters(graph.blocks, source);
  if (graph.encoder) find_adapters(graph.encoder->blocks, source);
}

}  // namespace

ModelFiles bind_model(std::shared_ptr<const WeightSource> source) {
  ModelFiles model;
  model.graph = describe_model(source->config_json(), source->path() + "/config.json");
  HeadSpec& head = model.graph.head;
  // Old names first: where all of a layer's experts lie is found under the description's names.
  Names names = resolve_names(wanted_names(model.graph, *source), *source);
  if (!names.empty()) source = make_named_source(std::move(source), std::move(names));
  Names experts;
  for (const BlockGraph& block : model.graph.blocks) find_fused_experts(block, *source, experts);
  if (!experts.empty()) source = make_named_source(std::move(source), std::move(experts));
  if (!head.own_matrix.empty() && source->contains(head.own_matrix)) head.matrix = head.own_matrix;
  find_adapters(model.graph, *source);
  model.unused = check_tensors(model.graph, *source);
  model.source = std::move(source);
  return model;
}

ModelFiles open_model_files(const std::string& path, const std::string& lora, LoraUse use) {
  std::shared_ptr<const WeightSource> source = open_weight_source(path);
  if (!lora.empty()) {
    auto adapter = std::make_shared<const LoraAdapter>(LoraAdapter::open(lora));
    source = use == LoraUse::kMerge ? make_merged_source(std::move(source), std::move(adapter))
                                    : make_beside_source(std::move(source), std::move(adapter));
  }
  ModelFiles model = bind_model(std::move(source));
  if (lora.empty() || use == LoraUse::kMerge) return model;
  // An adapter that nothing applies must not pass for one that was.
  const auto lost = std::find_if(model.unused.begin(), model.unused.end(), is_adapter);
  if (lost == model.unused.end()) return model;
  throw Error(ErrorCode::kInputMalformed,
              model.source->file_of(*lost) + ": \"" + *lost +
                  "\" adapts no linear of a block, or one of an expert, and cannot be kept beside "
                  "it; merge the adapter");
}

}  // namespace pare
