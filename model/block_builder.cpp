#include "model/block_builder.h"

#include <utility>

namespace pare {

BlockGraph expert_block(const BlockGraph& block, int64_t index) {
  BlockGraph expert = *block.experts->expert;
  expert.prefix = block.prefix + block.experts->expert_prefix + std::to_string(index) + ".";
  return expert;
}

BlockBuilder::BlockBuilder(std::string prefix, int64_t hidden_size) {
  block_.prefix = std::move(prefix);
  block_.widths = {hidden_size};
}

Value BlockBuilder::push(Op op, int64_t width) {
  op.output = static_cast<int>(block_.widths.size());
  block_.widths.push_back(width);
  block_.ops.push_back(std::move(op));
  return {block_.ops.back().output};
}

Value BlockBuilder::memory(int64_t width) {
  if (block_.memory < 0) {
    block_.memory = static_cast<int>(block_.widths.size());
    block_.widths.push_back(width);
  }
  return {block_.memory};
}

Value BlockBuilder::norm(Value in, const std::string& name, const NormSpec& spec) {
  Op op{.kind = OpKind::kNorm, .name = name, .inputs = {in.number}};
  op.norm = spec;
  return push(std::move(op), width(in));
}

Value BlockBuilder::linear(Value in, const std::string& name, int64_t out_features,
                           const LinearSpec& spec) {
  Op op{.kind = OpKind::kLinear, .name = name, .inputs = {in.number}};
  op.linear = spec;
  return push(std::move(op), out_features);
}

Value BlockBuilder::slice(Value in, int64_t begin, int64_t count) {
  return slice_runs(in, {.begin = begin, .count = count, .stride = width(in)});
}

Value BlockBuilder::slice_runs(Value in, const SliceSpec& spec) {
  Op op{.kind = OpKind::kSlice, .name = {}, .inputs = {in.number}};
  op.slice = spec;
  return push(std::move(op), width(in) / spec.stride * spec.count);
}

Value BlockBuilder::join_heads(Value each, Value shared, int64_t heads) {
  Op op{.kind = OpKind::kJoinHeads, .name = {}, .inputs = {each.number, shared.number}};
  op.heads = heads;
  return push(std::move(op), width(each) + heads * width(shared));
}

Value BlockBuilder::rotary(Value in, const RotaryShape& shape) {
  Op op{.kind = OpKind::kRotary, .name = {}, .inputs = {in.number}};
  op.detail = static_cast<int>(block_.rotaries.size());
  block_.rotaries.push_back(shape);
  return push(std::move(op), width(in));
}

Value BlockBuilder::clamp(Value in, float limit) {
  Op op{.kind = OpKind::kClamp, .name = {}, .inputs = {in.number}};
  op.limit = limit;
  return push(std::move(op), width(in));
}

Value BlockBuilder::activation(Value in, Activation activation) {
  Op op{.kind = OpKind::kActivation, .name = {}, .inputs = {in.number}};
  op.activation = activation;
  return push(std::move(op), width(in));
}

Value BlockBuilder::gated(Activation activation, Value gate, Value up) {
  Op op{.kind = OpKind::kGatedActivation, .name = {}, .inputs = {gate.number, up.number}};
  op.activation = activation;
  return push(std::move(op), width(up));
}

Value BlockBuilder::add(Value a, Value b) {
  return push({.kind = OpKind::kAdd, .name = {}, .inputs = {a.number, b.number}}, width(a));
}

Value BlockBuilder::attention(Value q, Value k, Value v, const AttentionSpec& spec,
                              const std::string& name) {
  Op op{.kind = OpKind::kAttention, .name = name, .inputs = {q.number, k.number, v.number}};
  op.detail = static_cast<int>(block_.attentions.size());
  block_.attentions.push_back(spec);
  return push(std::move(op), spec.shape.heads * spec.shape.value_width());
}

Value BlockBuilder::convolution(Value in, const std::string& name, const ConvolutionSpec& spec) {
  Op op{.kind = OpKind::kConvolution, .name = name, .inputs = {in.number}};
  op.detail = static_cast<int>(block_.convolutions.size());
  block_.convolutions.push_back(spec);
  return push(std::move(op), width(in));
}

Value BlockBuilder::selective_scan(Value x, Value dt, Value b, Value c, const std::string& name,
                                   const ScanSpec& spec) {
  Op op{.kind = OpKind::kSelectiveScan,
        .name = name,
        .inputs = {x.number, dt.number, b.number, c.number}};
  op.detail = static_cast<int>(block_.scans.size());
  block_.scans.push_back(spec);
  return push(std::move(op), width(x));
}

Value BlockBuilder::state_space_scan(Value x, Value dt, Value b, Value c, const std::string& name,
                                     const ScanSpec& spec) {
  Op op{.kind = OpKind::kStateSpaceScan,
        .name = name,
        .inputs = {x.number, dt.number, b.number, c.number}};
  op.detail = static_cast<int>(block_.scans.size());
  block_.scans.push_back(spec);
  return push(std::move(op), width(x));
}

Value BlockBuilder::experts(Value in, Value router_logits, const ExpertsSpec& spec) {
  block_.experts = spec;
  return push({.kind = OpKind::kExperts, .name = {}, .inputs = {in.number, router_logits.number}},
              width(in));
}

BlockGraph BlockBuilder::finish(Value output) {
  block_.output = output.number;
  return std::exchange(block_, {});
}

}  // namespace pare
