#include "pipeline/set_context.h"

#include <algorithm>

#include "kernels/codec.h"
#include "pipeline/input_noise.h"
#include "pipeline/layer_quality.h"
#include "quant/coordinate_descent.h"
#include "quant/gptaq.h"
#include "quant/noise_compensation.h"
#include "quant/output_error.h"

namespace pare {
namespace {

// A Gram matrix of fewer tokens than a few times its channels has directions where an error seems
// to cost nothing.
bool is_well_known(const SharingSet& set, int64_t in_features) {
  constexpr int64_t kTokensAChannel = 4;
  return set.statistics.tokens >= kTokensAChannel * in_features;
}

// Eight bits lose so little that fitting them to a few tokens does more harm than good.
bool enough_tokens(const WorkingLinear& linear, const SharingSet& set) {
  const WeightFormat format = linear.plan.format->weight;
  if (format != WeightFormat::kInt8 && format != WeightFormat::kFp8E4m3) return true;
  return is_well_known(set, linear.in_features);
}

// Whether weights make up for the rounding of their input. Not for FP4, whose error is not
// independent of the input, nor for a scale a token of INT8, where there is too little to gain; and
// not where --smooth-strength none asks for the plain scheme.
bool compensates_noise(const LinearPlan& plan, const QuantizeOptions& options) {
  const ActivationFormat activation = input_activation(*plan.format, options);
  if (activation == ActivationFormat::kInt8Static && !options.smooth) return false;
  return plan.stack.compensate_noise && activation != ActivationFormat::kInt8Dynamic;
}

// Whether codes are chosen with their neighbours in mind: by GPTQ, or by SparseGPT's loop.
bool solves_codes(const WorkingLinear& linear, const SetContext& context) {
  return linear.plan.format->quantized &&
         (!context.ordered.order.empty() || updates_weights(linear.plan));
}

}  // namespace

bool updates_weights(const LinearPlan& plan) {
  return plan.sparsity == SparsityMethod::kSparseGpt || plan.sparsity == SparsityMethod::kAdmm ||
         (plan.sparsity != SparsityMethod::kNone && plan.format->quantized);
}

double used_damping(const SetContext& context) {
  return std::max(context.factor.damping, context.ordered.factor.damping);
}

float calibrated_input_scale(const QFormat& format, const SetContext& context) {
  return input_scale_for(input_activation(format, context.plan.options),
                         absmax(context.set.statistics.amax));
}

SetContext make_context(const WorkingBlock& working, const SharingSet& set, const JobPlan& plan,
                        ThreadPool& pool) {
  SetContext context{set, plan, pool, {}, {}, {}, {}, {}, {}};
  const WorkingLinear& first = working.linears.at(set.linears[0]);
  const std::vector<double>& gram = set.statistics.gram;
  if (!gram.empty() && first.plan.changes()) {
    context.gram = mean_gram(gram, set.statistics.tokens);
  }
  std::vector<double> noise;  // of all tokens together: it adds to the energy of the channels
  if (compensates_noise(first.plan, plan.options) && is_well_known(set, first.in_features) &&
      !gram.empty()) {
    const QFormat& format = *first.plan.format;
    noise = input_noise(set, input_activation(format, plan.options),
                        calibrated_input_scale(format, context));
    context.noise_filter = make_noise_filter(gram, set.statistics.tokens, noise, first.name);
    for (double& value : noise) value *= static_cast<double>(set.statistics.tokens);
  }
  const double damping = plan.options.sparsegpt_damping;
  if (updates_weights(first.plan)) {
    context.factor = factorize_inverse(gram, first.in_features, damping, first.name, noise);
    const auto columns = static_cast<size_t>(first.in_features);
    for (size_t i = 0; i < context.noise_filter.variance.size(); ++i) {
      context.gram[i * (columns + 1)] += static_cast<float>(context.noise_filter.variance[i]);
    }
  } else if (first.plan.stack.gptq && !gram.empty() && enough_tokens(first, set)) {
    context.ordered = factorize_by_activation(gram, first.in_features, damping, first.name, noise);
  }
  if (first.plan.stack.descend && solves_codes(first, context)) {
    // The noise is in the matrix already where weights are updated.
    std::span<const double> variance = context.noise_filter.variance;
    if (updates_weights(first.plan)) variance = {};
    context.diagonal =
        descent_diagonal(context.gram, first.in_features, variance, used_damping(context));
  }
  if (first.plan.gptaq_alpha > 0 && !set.statistics.mismatch.empty()) {
    context.correction = mismatch_correction(set.statistics, first.plan.gptaq_alpha,
                                             used_damping(context), first.name, pool);
  }
  return context;
}

std::vector<float> matched_weight(const WorkingLinear& linear, const SetContext& context) {
  if (context.correction.empty()) return linear.weight;
  return match_original(linear.weight, linear.out_features, linear.in_features, context.correction,
                        context.pool);
}

std::vector<float> target_weight(const WorkingLinear& linear, const SetContext& context) {
  std::vector<float> weight = matched_weight(linear, context);
  if (context.noise_filter.empty()) return weight;
  return compensate_input_noise(weight, linear.out_features, context.noise_filter, context.pool);
}

std::string algorithm_of(const WorkingLinear& linear, const SetContext& context) {
  const AlgorithmStack& stack = linear.plan.stack;
  std::vector<std::string> steps;
  if (!context.set.scale.empty()) {
    steps.emplace_back(stack.scaling == ScalingMethod::kAwq ? "AWQ scales" : "SmoothQuant");
  }
  if (!context.correction.empty()) steps.emplace_back("GPTAQ");
  if (!context.noise_filter.empty()) steps.emplace_back("noise compensation");
  if (linear.plan.sparsity != SparsityMethod::kNone) {
    steps.push_back(sparsity_title(linear.plan.sparsity));
  }
  if (linear.plan.format->quantized) {
    if (stack.search_clip && context.plan.options.clip && !context.gram.empty()) {
      steps.emplace_back("clip search");
    }
    steps.emplace_back(solves_codes(linear, context) ? "GPTQ" : "round to nearest");
    if (!context.diagonal.empty()) steps.emplace_back("coordinate descent");
  }
  std::string text;
  for (const std::string& step : steps) text += (text.empty() ? "" : ", ") + step;
  return text;
}

std::string fallback_of(const WorkingLinear& linear, const SetContext& context) {
  const double damping = context.plan.options.sparsegpt_damping;
  if (used_damping(context) > damping) {
    return "damping " + std::to_string(used_damping(context)) + " instead of " +
           std::to_string(damping);
  }
  const InputStatistics& statistics = context.set.statistics;
  const std::string few = std::to_string(statistics.tokens) + " tokens are few for " +
                          std::to_string(linear.in_features) + " channels";
  if (linear.plan.stack.gptq && !updates_weights(linear.plan) &&
      !enough_tokens(linear, context.set) && !statistics.gram.empty()) {
    return "round to nearest: " + few;
  }
  if (compensates_noise(linear.plan, context.plan.options) && context.noise_filter.empty() &&
      !statistics.gram.empty()) {
    return "no noise compensation: " + few;
  }
  if (linear.plan.stack.scaling != ScalingMethod::kNone && context.set.scale.empty() &&
      (linear.plan.stack.scaling == ScalingMethod::kAwq || context.plan.options.smooth)) {
    return "no scaling: none was better than leaving the input alone";
  }
  return {};
}

}  // namespace pare
