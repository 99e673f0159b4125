#include "eval/layer_match.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "model/block_parameters.h"
#include "model/input_groups.h"
#include "pare/error.h"

namespace pare {
namespace {

bool same_ops(const BlockGraph& a, const BlockGraph& b) {
  return a.prefix == b.prefix && a.widths == b.widths &&
         std::equal(a.ops.begin(), a.ops.end(), b.ops.begin(), b.ops.end(),
                    [](const Op& x, const Op& y) {
                      return x.kind == y.kind && x.name == y.name && x.inputs == y.inputs &&
                             x.output == y.output && x.linear.bias == y.linear.bias &&
                             x.norm.bias == y.norm.bias;
                    });
}

bool same_tensor(const WeightSource& a, const std::string& in_a, const WeightSource& b,
                 const std::string& in_b) {
  if (a.is_compressed(in_a) || b.is_compressed(in_b)) return false;
  const TensorView x = a.dense(in_a);
  const TensorView y = b.dense(in_b);
  return x.dtype == y.dtype && x.shape == y.shape && x.bytes.size() == y.bytes.size() &&
         std::memcmp(x.bytes.data(), y.bytes.data(), x.bytes.size()) == 0;
}

// Of a norm or a linear: its weight and its bias.
bool same_parameters(const WeightSource& a, const WeightSource& b, const std::string& name,
                     bool bias) {
  return same_tensor(a, name + ".weight", b, name + ".weight") &&
         (!bias || same_tensor(a, name + ".bias", b, name + ".bias"));
}

// Whether linears have no adapters beside them, or the same.
bool same_adapters(const WeightSource& a, int64_t rank_in_a, const WeightSource& b,
                   int64_t rank_in_b, const std::string& name) {
  if (rank_in_a != rank_in_b) return false;
  return rank_in_a == 0 || (same_tensor(a, name + ".lora_A.weight", b, name + ".lora_A.weight") &&
                            same_tensor(a, name + ".lora_B.weight", b, name + ".lora_B.weight"));
}

}  // namespace

void require_same_layers(const EvaluatedModel& baseline, const EvaluatedModel& candidate) {
  const ModelGraph& a = baseline.graph;
  const ModelGraph& b = candidate.graph;
  const bool same =
      a.hidden_size == b.hidden_size && a.vocab_size == b.vocab_size &&
      std::equal(a.blocks.begin(), a.blocks.end(), b.blocks.begin(), b.blocks.end(), same_ops);
  const std::string rotation = rotation_of(candidate);
  if (same && rotation != rotation_of(baseline)) {
    throw Error(ErrorCode::kInputMalformed,
                candidate.source->path() + ": its residual stream is rotated (" + rotation +
                    "), that of the baseline " + baseline.source->path() + " is not (" +
                    rotation_of(baseline) +
                    "), so that no linear of one fits into the other; take as baseline a "
                    "checkpoint of --qformat full_prec with the same rotation");
  }
  if (same) return;
  throw Error(ErrorCode::kInputMalformed,
              candidate.source->path() + ": has " + std::to_string(b.blocks.size()) +
                  " layers of width " + std::to_string(b.hidden_size) + ", the baseline " +
                  baseline.source->path() + " has " + std::to_string(a.blocks.size()) +
                  " of width " + std::to_string(a.hidden_size) +
                  ", or their linears differ in name or shape; errors by layer need a candidate "
                  "that was made from the baseline");
}

std::vector<bool> equal_linears(const EvaluatedModel& baseline, const EvaluatedModel& candidate,
                                size_t block) {
  const BlockGraph& graph = baseline.graph.blocks[block];
  const BlockGraph& other = candidate.graph.blocks[block];
  const WeightSource& a = *baseline.source;
  const WeightSource& b = *candidate.source;
  std::vector<bool> same(graph.ops.size());
  for (size_t i = 0; i < graph.ops.size(); ++i) {
    const Op& op = graph.ops[i];
    const bool linear = op.kind == OpKind::kLinear;
    if (!linear && (op.kind != OpKind::kNorm || !op.norm.weight)) continue;
    same[i] = same_parameters(a, b, graph.full_name(op), linear ? op.linear.bias : op.norm.bias);
    if (!linear) continue;
    same[i] = same[i] && same_adapters(a, op.linear.adapter_rank, b,
                                       other.ops[i].linear.adapter_rank, graph.full_name(op));
  }
  std::vector<bool> equal = same;
  // A scale is in two tensors: of the one that is compressed it cannot be seen here.
  for (const InputGroup& group : input_groups(graph)) {
    if (group.producer == Producer::kNone) continue;
    for (const size_t op : group.linears) {
      if (!same[group.producer_op]) equal[op] = false;
      if (!same[op] && group.producer == Producer::kLinear) equal[group.producer_op] = false;
    }
  }
  a.release(block_tensors(graph));
  b.release(block_tensors(other));
  return equal;
}

bool heads_differ(const EvaluatedModel& baseline, const EvaluatedModel& candidate) {
  const auto differ = [&](const std::string& in_baseline, const std::string& in_candidate) {
    const bool same = same_tensor(*baseline.source, in_baseline, *candidate.source, in_candidate);
    baseline.source->release({in_baseline});
    candidate.source->release({in_candidate});
    return !same;
  };
  if (differ(baseline.graph.head.matrix, candidate.graph.head.matrix)) return true;
  const std::vector<std::string> tail = block_tensors(baseline.graph.head.tail);
  return std::any_of(tail.begin(), tail.end(),
                     [&](const std::string& name) { return differ(name, name); });
}

}  // namespace pare
