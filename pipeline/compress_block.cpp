#include "pipeline/compress_block.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "formats/beside_source.h"
#include "kernels/codec.h"
#include "model/block_parameters.h"
#include "pare/error.h"
#include "pipeline/channel_permuting.h"
#include "pipeline/input_sharing.h"
#include "pipeline/layer_quality.h"
#include "pipeline/set_context.h"
#include "quant/clip_search.h"
#include "quant/coordinate_descent.h"
#include "quant/gptq.h"
#include "quant/grid_rounding.h"
#include "quant/obs_solver.h"
#include "quant/output_error.h"
#include "quant/weight_grid.h"
#include "sparsity/admm.h"
#include "sparsity/kept_weights.h"
#include "sparsity/masks.h"
#include "sparsity/ria.h"
#include "sparsity/sparsegpt.h"

namespace pare {
namespace {

using Clock = std::chrono::steady_clock;

// Chooses the mask; where the weights are updated or will be rounded, the kept ones are solved for.
PrunedWeight prune(const WorkingLinear& linear, const SetContext& context) {
  const int64_t out = linear.out_features;
  const int64_t in = linear.in_features;
  const std::vector<float> target = target_weight(linear, context);
  PrunedWeight pruned{target, linear.keep};
  switch (linear.plan.sparsity) {
    case SparsityMethod::kNone:
      return pruned;
    case SparsityMethod::kMagnitude:
      break;
    case SparsityMethod::kWanda:
      pruned.keep = wanda_mask(target, out, in, context.set.statistics.square_sum, context.pool);
      break;
    case SparsityMethod::kRia:
      pruned.keep = ria_mask(target, out, in, context.set.statistics.square_sum, context.set.scale,
                             context.pool);
      break;
    case SparsityMethod::kSparseGpt: {
      SparseGptResult result = sparsegpt(target, out, in, context.factor, context.pool);
      pruned = {std::move(result.weight), std::move(result.keep)};
      break;
    }
    case SparsityMethod::kAdmm: {
      // SparseGPT's pass costs little beside it and is better for rows that are nearly independent.
      SparseGptResult other = sparsegpt(target, out, in, context.factor, context.pool);
      pruned = {std::move(other.weight), std::move(other.keep)};
      const double damping = context.plan.options.sparsegpt_damping;
      PrunedWeight found =
          admm_prune(target, out, in, context.gram, {.damping = damping}, context.pool);
      for (PrunedWeight* each : {&pruned, &found}) {
        each->weight = solve_kept_weights(target, each->weight, each->keep, out, in, context.gram,
                                          {.damping = damping}, context.pool);
      }
      take_better_rows(target, out, in, context.gram, found, pruned, context.pool);
      return pruned;
    }
  }
  for (size_t i = 0; i < pruned.weight.size(); ++i) {
    if (pruned.keep[i] == 0) pruned.weight[i] = 0;
  }
  if (updates_weights(linear.plan)) {
    pruned.weight =
        solve_kept_weights(target, pruned.weight, pruned.keep, out, in, context.gram,
                           {.damping = context.plan.options.sparsegpt_damping}, context.pool);
  }
  return pruned;
}

CompressedWeight start_weight(const WorkingLinear& linear, const SetContext& context) {
  const QFormat& format = *linear.plan.format;
  CompressedWeight weight;
  weight.format = format.weight;
  weight.activation = input_activation(format, context.plan.options);
  weight.out_features = linear.out_features;
  weight.in_features = linear.in_features;
  weight.sparse = linear.plan.sparsity != SparsityMethod::kNone;
  weight.input_scale = calibrated_input_scale(format, context);
  if (!context.set.scale.empty() && !context.set.absorbed) {
    for (const float scale : context.set.scale) weight.pre_quant_scale.push_back(1.0F / scale);
  }
  return weight;
}

// The grid of a dense weight, or the start of the grid that the solver fits.
WeightGrid choose_grid(const WorkingLinear& linear, const PrunedWeight& pruned, float shared_absmax,
                       const SetContext& context) {
  const QFormat& format = *linear.plan.format;
  // Engines fuse layers that share an input, and then they need one scale for all.
  const GridSpec spec = with_global_scale(grid_spec(format, context.plan.options), shared_absmax);
  if (linear.plan.stack.search_clip && context.plan.options.clip && !context.gram.empty()) {
    return search_clip(pruned.weight, linear.out_features, linear.in_features, spec, context.gram,
                       pruned.keep, context.pool);
  }
  WeightGrid grid = absmax_grid(pruned.weight, linear.out_features, linear.in_features, spec);
  if (spec.group_size == kPerTensor) grid.scale = {symmetric_scale(shared_absmax, kE4m3Max)};
  return grid;
}

CompressedWeight round_weight(const WorkingLinear& linear, const PrunedWeight& pruned,
                              float shared_absmax, const SetContext& context, LayerReport& report) {
  CompressedWeight weight = start_weight(linear, context);
  if (!linear.plan.format->quantized) {
    std::vector<uint16_t> values(pruned.weight.size());
    f32_to_bf16(pruned.weight, values);
    pack_bf16_weight(values, pruned.keep, weight);
    return weight;
  }
  WeightGrid grid = choose_grid(linear, pruned, shared_absmax, context);
  std::vector<int8_t> codes;
  if (!context.ordered.order.empty()) {
    codes = gptq_codes(pruned.weight, pruned.keep, grid, context.ordered, context.pool);
  } else if (pruned.keep.empty()) {
    codes = encode(grid, pruned.weight, context.pool);
  } else {
    ObsProblem problem;
    problem.out_features = linear.out_features;
    problem.in_features = linear.in_features;
    problem.weight = pruned.weight;
    problem.factor = &context.factor;
    problem.keep = pruned.keep;
    problem.search_group_scale = linear.plan.stack.search_clip && context.plan.options.clip;
    problem.grid = std::move(grid);
    ObsSolution solution = solve_obs(problem, context.pool);
    codes = std::move(solution.codes);
    grid = std::move(*solution.grid);
  }
  if (!context.diagonal.empty()) {
    const DescentNorm norm{context.gram, context.diagonal};
    descend_codes(pruned.weight, pruned.keep, norm, context.plan.options.clip, grid, codes,
                  context.pool);
  }
  report.clipped_weights = count_clipped(grid, pruned.weight);
  store_on_grid(std::move(grid), codes, pruned.keep, weight);
  return weight;
}

LayerReport make_report(const WorkingLinear& linear) {
  LayerReport report;
  report.name = linear.name;
  report.shape = {linear.out_features, linear.in_features};
  report.qformat = linear.plan.format->quantized ? linear.plan.format->name : "bf16";
  report.bytes = 2 * linear.out_features * linear.in_features;
  return report;
}

int64_t weight_bytes(const CompressedWeight& weight) {
  const size_t scale_bytes = is_fp4(weight.format) ? 1 : 4;
  return static_cast<int64_t>(
      weight.codes.size() + weight.mask_index.size() + scale_bytes * weight.scale.size() +
      (weight.format == WeightFormat::kNvfp4 ? 4 : 0) + weight.zero_point.size() +
      4 * weight.pre_quant_scale.size() + (weight.input_scale > 0 ? 4 : 0));
}

// The output to the one that is wanted for this input, and how rounding alone would have done.
void measure(const WorkingLinear& linear, const CompressedWeight& weight, const SetContext& context,
             LayerReport& report) {
  const std::vector<float> wanted = matched_weight(linear, context);
  report.sqnr_db = measure_output(weight, wanted, sampled_input(context.set, true));
  report.algorithm = algorithm_of(linear, context);
  report.fallback = fallback_of(linear, context);
  std::vector<float> original = wanted;
  const std::vector<float>& scale = context.set.scale;
  if (!scale.empty()) {
    for (size_t i = 0; i < original.size(); ++i) original[i] /= scale[i % scale.size()];
  }
  const CompressedWeight plain =
      round_to_nearest(linear, context.set, context.plan.options, context.pool);
  report.rtn_sqnr_db = measure_output(plain, original, sampled_input(context.set, false));
}

void compress_set(const WorkingBlock& working, const SharingSet& set, const JobPlan& plan,
                  ThreadPool& pool, const ProgressMeter& meter, CompressedBlock& result) {
  Clock::time_point start = Clock::now();
  meter.check_cancelled();
  const SetContext context = make_context(working, set, plan, pool);
  std::vector<PrunedWeight> pruned;
  float shared_absmax = 0;
  for (const size_t index : set.linears) {
    meter.check_cancelled();
    pruned.push_back(prune(working.linears.at(index), context));
    shared_absmax = std::max(shared_absmax, absmax(pruned.back().weight));
  }
  for (size_t i = 0; i < set.linears.size(); ++i) {
    meter.check_cancelled();
    const WorkingLinear& linear = working.linears.at(set.linears[i]);
    LayerReport report = make_report(linear);
    CompressedWeight weight = round_weight(linear, pruned[i], shared_absmax, context, report);
    validate(weight, linear.name + ".weight");
    report.detail = with_order(set.detail, linear);
    measure(linear, weight, context, report);
    report.sparsity = weight.sparse ? 0.5 : 0;
    report.bytes = weight_bytes(weight);
    if (used_damping(context) > plan.options.sparsegpt_damping) {
      result.warnings.push_back(linear.name + ": the Gram matrix needed damping of " +
                                std::to_string(used_damping(context)) + " instead of " +
                                std::to_string(plan.options.sparsegpt_damping));
    }
    const Clock::time_point now = Clock::now();
    report.seconds = std::chrono::duration<double>(now - start).count();
    start = now;
    result.compressed.emplace_back(linear.name + ".weight", std::move(weight));
    result.layers.push_back(std::move(report));
    pruned[i] = {};
  }
}

// A linear that stays as it is, in the order of its neighbours' channels.
void keep_linear(const BlockGraph& block, size_t index, const WorkingLinear& linear,
                 const WeightSource& source, CompressedBlock& result) {
  result.dense.push_back(copy_permuted(block, block.ops[index], linear, source));
  LayerReport report = make_report(linear);
  report.bytes = static_cast<int64_t>(result.dense.back().bytes.size());
  result.layers.push_back(std::move(report));
}

// Convolutions, scans, sinks, tables: what no algorithm touches.
void copy_others(const BlockGraph& block, const WeightSource& source, CompressedBlock& result) {
  for (const Parameter& parameter : block_parameters(block)) {
    if (parameter.op < block.ops.size()) {
      const OpKind kind = block.ops[parameter.op].kind;
      if (kind == OpKind::kNorm || kind == OpKind::kLinear) continue;
    }
    if (parameter.owned) result.dense.push_back(copy_dense(source, parameter.name));
  }
}

}  // namespace

CompressedBlock compress_block(const BlockGraph& block, const WeightSource& source,
                               const JobPlan& plan, std::map<int, InputStatistics> statistics,
                               ThreadPool& pool, const ProgressMeter& meter) {
  WorkingBlock working = prepare_block(block, source, plan, std::move(statistics), pool, meter);
  CompressedBlock result;
  for (const SharingSet& set : working.sets) {
    if (working.linears.at(set.linears[0]).plan.changes()) {
      compress_set(working, set, plan, pool, meter, result);
    } else {
      for (const size_t index : set.linears) {
        keep_linear(block, index, working.linears.at(index), source, result);
      }
    }
  }
  const auto store = [&](const std::string& name, DType dtype, const std::vector<float>& values) {
    if (values.empty()) return;
    result.dense.push_back(
        {name, dtype, {static_cast<int64_t>(values.size())}, encode_values(values, dtype)});
  };
  for (const auto& [index, norm] : working.norms) {
    const std::string name = block.full_name(block.ops[index]);
    store(name + ".weight", norm.dtype, norm.weight);
    store(name + ".bias", norm.bias_dtype, norm.bias);
  }
  for (const auto& entry : working.linears) {
    const WorkingLinear& linear = entry.second;
    store(linear.name + ".bias", linear.bias_dtype, linear.bias);
    const auto store_factor = [&](const char* suffix, Shape shape,
                                  const std::vector<float>& values) {
      if (values.empty()) return;
      result.dense.push_back({linear.name + suffix, DType::kF32, std::move(shape),
                              encode_values(values, DType::kF32)});
    };
    store_factor(kLoraASuffix, {linear.adapter_rank, linear.in_features}, linear.lora_a);
    store_factor(kLoraBSuffix, {linear.out_features, linear.adapter_rank}, linear.lora_b);
  }
  copy_others(block, source, result);
  source.release(block_tensors(block));
  return result;
}

}  // namespace pare
