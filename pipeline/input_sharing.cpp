#include "pipeline/input_sharing.h"

#include <algorithm>
#include <cmath>

#include "formats/beside_source.h"
#include "kernels/codec.h"
#include "model/block_runner.h"
#include "pare/error.h"
#include "pipeline/channel_permuting.h"
#include "pipeline/compressed_block.h"
#include "quant/awq.h"
#include "quant/smoothquant.h"
#include "sparsity/masks.h"

namespace pare {
namespace {

WorkingLinear load_linear(const BlockGraph& block, const Op& op, const WeightSource& source,
                          const JobPlan& plan, ThreadPool& pool) {
  WorkingLinear linear;
  linear.name = block.full_name(op);
  linear.plan = plan.linear(linear.name);
  linear.out_features = block.out_features(op);
  linear.in_features = block.in_features(op);
  linear.weight = load_dense_weight(block, op, source.dense(linear.name + ".weight"));
  if (!std::isfinite(absmax(linear.weight))) {
    throw Error(ErrorCode::kNonFinite, source.file_of(linear.name + ".weight") + ": tensor \"" +
                                           linear.name + ".weight\" holds NaN or infinity");
  }
  if (op.linear.bias) {
    linear.bias = load_vector(source, linear.name + ".bias");
    linear.bias_dtype = source.dtype(linear.name + ".bias");
  }
  linear.adapter_rank = op.linear.adapter_rank;
  if (linear.adapter_rank > 0) {
    linear.lora_a = load_vector(source, linear.name + kLoraASuffix);
    linear.lora_b = load_vector(source, linear.name + kLoraBSuffix);
  }
  if (linear.plan.sparsity == SparsityMethod::kMagnitude) {
    linear.keep = magnitude_mask(linear.weight, linear.out_features, linear.in_features, pool);
  }
  return linear;
}

WorkingNorm load_norm(const BlockGraph& block, const Op& op, const WeightSource& source) {
  const std::string name = block.full_name(op);
  WorkingNorm norm;
  norm.dtype = source.dtype(name + ".weight");
  norm.weight_offset = op.norm.weight_offset;
  norm.weight = load_vector(source, name + ".weight");
  if (op.norm.bias) {
    norm.bias_dtype = source.dtype(name + ".bias");
    norm.bias = load_vector(source, name + ".bias");
  }
  return norm;
}

void check_finite(const InputStatistics& statistics, const std::string& names) {
  for (const float amax : statistics.amax) {
    if (!std::isfinite(amax)) {
      throw Error(ErrorCode::kNonFinite,
                  "the input of " + names + " holds NaN or infinity on the calibration tokens");
    }
  }
}

// Sets of a group by format; only a set that is the whole group can have its scale absorbed.
std::vector<SharingSet> split_by_plan(const InputGroup& group, const WorkingBlock& working) {
  std::vector<SharingSet> sets;
  for (const size_t index : group.linears) {
    const LinearPlan& plan = working.linears.at(index).plan;
    auto same = std::find_if(sets.begin(), sets.end(), [&](const SharingSet& set) {
      return working.linears.at(set.linears[0]).plan == plan;
    });
    if (same == sets.end()) same = sets.insert(sets.end(), SharingSet{});
    same->value = group.value;
    same->linears.push_back(index);
  }
  return sets;
}

// Channels that one row of the producer feeds, numbered from 0.
std::vector<int32_t> tied_channels(const InputGroup& group, bool absorbed) {
  if (!absorbed || group.producer != Producer::kLinear) return {};
  // Rows of a fused linear begin anywhere.
  std::map<int32_t, int32_t> number_of_row;
  std::vector<int32_t> channels;
  for (const int32_t row : group.producer_row) {
    const auto next = static_cast<int32_t>(number_of_row.size());
    channels.push_back(number_of_row.try_emplace(row, next).first->second);
  }
  return channels;
}

InputScaling search_scaling(const SharingSet& set, const JobPlan& plan,
                            const InputStatistics& statistics, std::vector<int32_t> tied,
                            WorkingBlock& working, ThreadPool& pool) {
  const LinearPlan& first = working.linears.at(set.linears[0]).plan;
  const QFormat& format = *first.format;
  LinearGroup group;
  group.in_features = statistics.in_features;
  group.statistics = &statistics;
  group.tied_channel = std::move(tied);
  for (const size_t index : set.linears) {
    WorkingLinear& linear = working.linears.at(index);
    group.linears.push_back({linear.name, linear.out_features, std::move(linear.weight)});
  }
  InputScaling scaling;
  if (first.stack.scaling == ScalingMethod::kSmoothQuant) {
    scaling = search_smoothquant(group,
                                 {.strength = plan.options.smooth_strength,
                                  .dynamic_activations = plan.options.dynamic_activations},
                                 pool);
  } else {
    scaling = search_awq(group, grid_spec(format, plan.options),
                         first.stack.search_clip && plan.options.clip, pool);
  }
  for (size_t i = 0; i < set.linears.size(); ++i) {
    working.linears.at(set.linears[i]).weight = std::move(group.linears[i].weight);
  }
  return scaling;
}

// Divides the norm's weight by the scale, as far as its element type holds it, and returns the
// scale that this amounts to: the linears are multiplied by exactly that, so that rounding the norm
// costs nothing.
std::vector<float> absorb_in_norm(WorkingNorm& norm, const std::vector<float>& scale) {
  const float offset = norm.weight_offset;
  std::vector<float> divided(scale.size());
  for (size_t i = 0; i < scale.size(); ++i) {
    divided[i] = (norm.weight[i] + offset) / scale[i] - offset;
  }
  const DenseTensor stored{
      {}, norm.dtype, {static_cast<int64_t>(scale.size())}, encode_values(divided, norm.dtype)};
  divided = to_f32(stored.view(), "norm");
  std::vector<float> effective(scale.size(), 1.0F);
  for (size_t i = 0; i < scale.size(); ++i) {
    const float ratio = (norm.weight[i] + offset) / (divided[i] + offset);
    if (!std::isfinite(ratio) || !(ratio > 0)) continue;
    effective[i] = ratio;
    norm.weight[i] = divided[i];
    if (!norm.bias.empty()) norm.bias[i] /= ratio;
  }
  return effective;
}

void absorb_in_linear(WorkingLinear& producer, const InputGroup& group,
                      const std::vector<float>& scale) {
  std::vector<float> row_scale(static_cast<size_t>(producer.out_features), 1.0F);
  for (size_t i = 0; i < scale.size(); ++i) {
    row_scale[static_cast<size_t>(group.producer_row[i])] = scale[i];
  }
  for (int64_t row = 0; row < producer.out_features; ++row) {
    const float divisor = row_scale[static_cast<size_t>(row)];
    float* values = producer.weight.data() + row * producer.in_features;
    for (int64_t i = 0; i < producer.in_features; ++i) values[i] /= divisor;
    if (!producer.bias.empty()) producer.bias[static_cast<size_t>(row)] /= divisor;
    for (int64_t k = 0; k < producer.adapter_rank; ++k) {
      producer.lora_b[static_cast<size_t>(row * producer.adapter_rank + k)] /= divisor;
    }
  }
}

void multiply_columns(std::vector<float>& matrix, const std::vector<float>& scale) {
  for (size_t i = 0; i < matrix.size(); ++i) matrix[i] *= scale[i % scale.size()];
}

// Whether a row can be rescaled for free, because a scale of its own absorbs it. A row of a tensor
// with a single scale would lose precision, one that stays in BF16 would be rounded again.
bool rows_have_scales(const QFormat& format) {
  return format.quantized && format.weight != WeightFormat::kFp8E4m3;
}

void scale_set(const InputGroup& group, SharingSet& set, bool whole, const JobPlan& plan,
               const InputStatistics& statistics, WorkingBlock& working, ThreadPool& pool) {
  const ScalingMethod method = working.linears.at(set.linears[0]).plan.stack.scaling;
  const bool wanted = method == ScalingMethod::kAwq ||
                      (method == ScalingMethod::kSmoothQuant && plan.options.smooth);
  if (!wanted) return;
  set.absorbed = whole && (group.producer == Producer::kNorm ||
                           (group.producer == Producer::kLinear &&
                            rows_have_scales(*working.linears.at(group.producer_op).plan.format)));
  if (!set.absorbed && !plan.options.pre_quant_scale) return;
  InputScaling scaling =
      search_scaling(set, plan, statistics, tied_channels(group, set.absorbed), working, pool);
  set.detail = scaling.detail;
  if (scaling.scale.empty()) return;
  set.scale = std::move(scaling.scale);
  if (set.absorbed && group.producer == Producer::kNorm) {
    set.scale = absorb_in_norm(working.norms.at(group.producer_op), set.scale);
  } else if (set.absorbed) {
    absorb_in_linear(working.linears.at(group.producer_op), group, set.scale);
  }
  for (const size_t index : set.linears) {
    WorkingLinear& linear = working.linears.at(index);
    multiply_columns(linear.weight, set.scale);
    // An adapter reads the input itself, which a stored scale does not change.
    if (set.absorbed) multiply_columns(linear.lora_a, set.scale);
  }
}

}  // namespace

WorkingBlock prepare_block(const BlockGraph& block, const WeightSource& source, const JobPlan& plan,
                           std::map<int, InputStatistics> statistics, ThreadPool& pool,
                           const ProgressMeter& meter) {
  WorkingBlock working;
  for (size_t i = 0; i < block.ops.size(); ++i) {
    const Op& op = block.ops[i];
    if (op.kind == OpKind::kLinear) {
      working.linears[i] = load_linear(block, op, source, plan, pool);
    } else if (op.kind == OpKind::kNorm && op.norm.weight) {
      working.norms[i] = load_norm(block, op, source);
    }
  }
  permute_channels(block, plan, working, statistics, pool, meter);
  for (const InputGroup& group : input_groups(block)) {
    std::vector<SharingSet> sets = split_by_plan(group, working);
    const auto known = statistics.find(group.value);
    for (SharingSet& set : sets) {
      meter.check_cancelled();
      if (known != statistics.end()) {
        check_finite(known->second, block.prefix + group.describe(block));
        scale_set(group, set, sets.size() == 1, plan, known->second, working, pool);
        std::vector<float> inverse(set.scale.size());
        std::transform(set.scale.begin(), set.scale.end(), inverse.begin(),
                       [](float scale) { return 1.0F / scale; });
        // Gram matrices are large: the last user takes the original.
        const bool last = &set == &sets.back();
        set.statistics = rescale(last ? std::move(known->second) : known->second, inverse);
      }
      working.sets.push_back(std::move(set));
    }
  }
  return working;
}

}  // namespace pare
