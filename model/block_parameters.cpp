#include "model/block_parameters.h"

#include <algorithm>

#include "formats/beside_source.h"
#include "model/cache_tensors.h"

namespace pare {
namespace {

class Collector {
 public:
  explicit Collector(const BlockGraph& block) : block_(block) {}

  std::vector<Parameter> collect() {
    for (op_ = 0; op_ < block_.ops.size(); ++op_) add_op(block_.ops[op_]);
    if (block_.experts && !block_.experts->correction.empty()) {
      add(block_.prefix + block_.experts->correction, {block_.experts->count});
    }
    return std::move(parameters_);
  }

 private:
  void add(const std::string& name, Shape shape) {
    parameters_.push_back({.name = name, .shape = std::move(shape), .op = op_});
  }

  void add_op(const Op& op) {
    const std::string name = block_.full_name(op);
    const int64_t width = block_.width(op.inputs[0]);
    switch (op.kind) {
      case OpKind::kNorm: {
        const int64_t size = op.norm.width > 0 ? op.norm.width : width;
        if (op.norm.weight) add(name + ".weight", {size});
        if (op.norm.bias) add(name + ".bias", {size});
        return;
      }
      case OpKind::kLinear: {
        const int64_t out = block_.out_features(op);
        add(name + ".weight", op.linear.transposed ? Shape{width, out} : Shape{out, width});
        parameters_.back().weight = true;
        parameters_.back().transposed = op.linear.transposed;
        if (op.linear.bias) add(name + ".bias", {out});
        if (op.linear.adapter_rank > 0) {
          add(name + kLoraASuffix, {op.linear.adapter_rank, width});
          add(name + kLoraBSuffix, {out, op.linear.adapter_rank});
        }
        return;
      }
      case OpKind::kAttention:
        return add_attention(op, name);
      case OpKind::kConvolution: {
        const ConvolutionSpec& spec = block_.convolutions[static_cast<size_t>(op.detail)];
        add(name + ".weight", {width, 1, spec.kernel});
        if (spec.bias) add(name + ".bias", {width});
        return;
      }
      case OpKind::kSelectiveScan: {
        const ScanSpec& spec = block_.scans[static_cast<size_t>(op.detail)];
        add(name + "A_log", {width, spec.state_size});
        add(name + "D", {width});
        return;
      }
      case OpKind::kStateSpaceScan: {
        const ScanSpec& spec = block_.scans[static_cast<size_t>(op.detail)];
        add(name + "A_log", {spec.heads});
        add(name + "D", {spec.heads});
        add(name + "dt_bias", {spec.heads});
        return;
      }
      default:
        return;
    }
  }

  void add_attention(const Op& op, const std::string& name) {
    const AttentionSpec& spec = block_.attentions[static_cast<size_t>(op.detail)];
    if (spec.sinks) add(name, {spec.shape.heads});
    for (CacheTensor& tensor : cache_tensors(block_, op)) {
      add(tensor.name, std::move(tensor.shape));
    }
    if (spec.relative_bias.table.empty()) return;
    add(spec.relative_bias.table, {spec.relative_bias.buckets, spec.shape.heads});
    parameters_.back().owned = spec.relative_bias.owned;
  }

  const BlockGraph& block_;
  size_t op_ = 0;
  std::vector<Parameter> parameters_;
};

void visit_with_experts(const BlockGraph& block,
                        const std::function<void(const BlockGraph&)>& visit) {
  visit(block);
  if (!block.experts) return;
  for (int64_t expert = 0; expert < block.experts->count; ++expert) {
    visit(expert_block(block, expert));
  }
}

void add_all(const BlockGraph& block, std::vector<Parameter>& parameters) {
  const std::vector<Parameter> more = block_parameters(block);
  parameters.insert(parameters.end(), more.begin(), more.end());
}

void add_embedding(const EmbeddingSpec& embedding, std::vector<Parameter>& parameters) {
  parameters.push_back(
      {.name = embedding.tokens, .shape = {embedding.vocab_size, embedding.width}});
  if (embedding.position_kind != PositionKind::kNone) {
    parameters.push_back({.name = embedding.positions,
                          .shape = {embedding.position_rows, embedding.position_width()},
                          .optional = embedding.position_kind == PositionKind::kSinusoidal});
  }
  add_all(embedding.stem, parameters);
}

}  // namespace

std::vector<Parameter> block_parameters(const BlockGraph& block) {
  return Collector(block).collect();
}

std::vector<std::string> block_tensors(const BlockGraph& block) {
  std::vector<std::string> names;
  for (const Parameter& parameter : block_parameters(block)) {
    if (parameter.owned) names.push_back(parameter.name);
  }
  return names;
}

LinearElements linear_elements(const BlockGraph& block) {
  LinearElements elements;
  for (const Op& op : block.ops) {
    if (op.kind != OpKind::kLinear) continue;
    const int64_t own = block.out_features(op) * block.in_features(op);
    elements.all += own;
    elements.largest = std::max(elements.largest, own);
  }
  return elements;
}

void for_each_block(const ModelGraph& graph, const std::function<void(const BlockGraph&)>& visit) {
  if (graph.encoder) {
    for (const BlockGraph& block : graph.encoder->blocks) visit_with_experts(block, visit);
  }
  for (const BlockGraph& block : graph.blocks) visit_with_experts(block, visit);
}

std::vector<Parameter> outer_parameters(const ModelGraph& graph) {
  std::vector<Parameter> parameters;
  add_embedding(graph.embedding, parameters);
  if (graph.encoder) {
    add_embedding(graph.encoder->embedding, parameters);
    add_all(graph.encoder->tail, parameters);
  }
  add_all(graph.head.tail, parameters);
  const BlockGraph& tail = graph.head.tail;
  parameters.push_back(
      {.name = graph.head.matrix, .shape = {graph.vocab_size, tail.width(tail.output)}});
  if (!graph.head.bias.empty()) {
    parameters.push_back(
        {.name = graph.head.bias, .shape = {1, graph.vocab_size}, .optional = true});
  }
  // Encoder and decoder may share their tensors, and the head those of the embedding.
  std::vector<Parameter> unique;
  for (Parameter& parameter : parameters) {
    const bool known = std::any_of(unique.begin(), unique.end(), [&](const Parameter& other) {
      return other.name == parameter.name;
    });
    if (!known) unique.push_back(std::move(parameter));
  }
  return unique;
}

}  // namespace pare
