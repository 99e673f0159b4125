#include "model/model_files.h"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>
#include <utility>

#include "formats/beside_source.h"
#include "formats/lora_adapter.h"
#include "formats/merged_source.h"
#include "formats/named_source.h"
#include "formats/resolve_names.h"
#include "model/architectures.h"
#include "model/block_parameters.h"
#include "model/cache_tensors.h"
#include "pare/error.h"

namespace pare {
namespace {

using Names = std::map<std::string, StoredTensor>;

// A parameter of one expert in the tensor that holds those of all.
StoredTensor part_of(const WeightSource& source, const std::string& stored, int64_t expert,
                     const FusedExperts& fused) {
  StoredTensor whole = index_part(whole_tensor(source, stored), expert);
  if (fused.parts == 1) return whole;
  if (whole.shape.empty() || whole.shape[0] % fused.parts != 0) {
    throw Error(ErrorCode::kInputMalformed, source.file_of(stored) + ": tensor \"" + stored +
                                                "\" has shape " + shape_text(source.shape(stored)) +
                                                ", expected [experts, " +
                                                std::to_string(fused.parts) + " × rows, columns]");
  }
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
  if (!graph.head.own_matrix.empty()) wanted.push_back(graph.head.own_matrix);
  for_each_block(graph, [&](const BlockGraph& block) {
    add(block_parameters(block));
    if (!block.experts) return;
    for (const FusedExperts& fused : block.experts->fused) {
      if (fused.part == 0) wanted.push_back(block.prefix + fused.stored);
    }
  });
  return wanted;
}

// Names that releases of one model do not share.
void find_old_names(const std::vector<std::string>& wanted, const WeightSource& source,
                    Names& names) {
  constexpr std::array<std::pair<const char*, const char*>, 2> kOther = {{
      {".block_sparse_moe.gate.", ".mlp.gate."},
      {"backbone.embeddings.", "backbone.embedding."},
  }};
  for (const std::string& name : wanted) {
    if (source.contains(name) || names.contains(name)) continue;
    for (const auto& [part, other] : kOther) {
      const size_t at = name.find(part);
      if (at == std::string::npos) continue;
      std::string old = name;
      old.replace(at, std::string_view(part).size(), other);
      if (source.contains(old)) names[name] = whole_tensor(source, old);
    }
  }
}

// So many that a damaged file alone can ask for them.
void check_experts(const ModelGraph& graph, const std::string& origin) {
  constexpr int64_t kMostExperts = 1 << 18;
  int64_t experts = 0;
  for (const BlockGraph& block : graph.blocks) experts += block.experts ? block.experts->count : 0;
  if (experts <= kMostExperts) return;
  throw Error(ErrorCode::kInputMalformed, origin + ": asks for " + std::to_string(experts) +
                                              " experts in all layers, expected at most " +
                                              std::to_string(kMostExperts));
}

void find_adapters(std::vector<BlockGraph>& blocks, const WeightSource& source) {
  for (BlockGraph& block : blocks) {
    for (Op& op : block.ops) {
      const std::string name = block.full_name(op) + kLoraASuffix;
      if (op.kind != OpKind::kLinear || !source.contains(name)) continue;
      // One of another shape is nothing that is known.
      const Shape shape = source.shape(name);
      if (shape.size() == 2) op.linear.adapter_rank = shape[0];
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
  check_experts(model.graph, source->path() + "/config.json");
  HeadSpec& head = model.graph.head;
  // Old names first: where all of a layer's experts lie is found under the description's names.
  const std::vector<std::string> wanted = wanted_names(model.graph, *source);
  Names names = resolve_names(wanted, *source);
  find_old_names(wanted, *source, names);
  if (!names.empty()) source = make_named_source(source, names);
  Names experts;
  for (const BlockGraph& block : model.graph.blocks) find_fused_experts(block, *source, experts);
  if (!experts.empty()) source = make_named_source(source, experts);
  if (!head.own_matrix.empty() && source->contains(head.own_matrix)) head.matrix = head.own_matrix;
  find_adapters(model.graph, *source);
  find_caches(model.graph, *source);
  model.unused = check_tensors(model.graph, *source);
  check_caches(model.graph, *source);
  model.source = std::move(source);
  return model;
}

ModelFiles open_model_files(const std::string& path, const std::string& lora, LoraUse use) {
  std::shared_ptr<const WeightSource> source = open_weight_source(path);
  if (!lora.empty()) {
    auto adapter = std::make_shared<const LoraAdapter>(LoraAdapter::open(lora));
    source = use == LoraUse::kMerge ? make_merged_source(source, std::move(adapter))
                                    : make_beside_source(source, std::move(adapter));
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
