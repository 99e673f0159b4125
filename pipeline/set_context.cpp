#include "pipeline/set_context.h"

#include <algorithm>

#include "kernels/codec.h"
#include "pipeline/layer_quality.h"
#include "quant/gptaq.h"
#include "quant/noise_compensation.h"
#include "quant/output_error.h"

namespace pare {
namespace {

// Eight bits lose so little that fitting them to a few tokens does more harm than good: a Gram
// matrix of fewer tokens than a few times its channels has directions where an error seems to cost
// nothing.
bool enough_tokens(const WorkingLinear& linear, const SharingSet& set) {
  constexpr int64_t kTokensAChannel = 4;
  const WeightFormat format = linear.plan.format->weight;
  if (format != WeightFormat::kInt8 && format != WeightFormat::kFp8E4m3) return true;
  return set.statistics.tokens >= kTokensAChannel * linear.in_features;
}

// The step of a static INT8 input, which is noisy enough for the best weight to differ from the
// original one; 0 where that is left alone.
double noise_step(const WorkingLinear& linear, const SetContext& context) {
  const QuantizeOptions& options = context.plan.options;
  if (linear.plan.stack.scaling != ScalingMethod::kSmoothQuant || !options.smooth) return 0;
  const QFormat& format = *linear.plan.format;
  if (input_activation(format, options) != ActivationFormat::kInt8Static) return 0;
  if (!enough_tokens(linear, context.set)) return 0;
  return static_cast<double>(calibrated_input_scale(format, context));
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
  SetContext context{set, plan, pool, {}, {}, {}, {}};
  const WorkingLinear& first = working.linears.at(set.linears[0]);
  if (!set.statistics.gram.empty() && first.plan.changes()) {
    context.gram = mean_gram(set.statistics.gram, set.statistics.tokens);
  }
  if (updates_weights(first.plan)) {
    context.factor = factorize_inverse(set.statistics.gram, first.in_features,
                                       plan.options.sparsegpt_damping, first.name);
  } else if (first.plan.stack.gptq && !set.statistics.gram.empty() && enough_tokens(first, set)) {
    // Rounding of the input is noise that adds to every channel's energy.
    const double step = noise_step(first, context);
    std::vector<double> gram = set.statistics.gram;
    const auto columns = static_cast<size_t>(first.in_features);
    for (size_t i = 0; i < columns && step > 0; ++i) {
      gram[i * (columns + 1)] += static_cast<double>(set.statistics.tokens) * step * step / 12;
    }
    context.ordered = factorize_by_activation(gram, first.in_features,
                                              plan.options.sparsegpt_damping, first.name);
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
  const double step = noise_step(linear, context);
  if (step == 0) return weight;
  const InputStatistics& statistics = context.set.statistics;
  return compensate_input_noise(weight, linear.out_features, linear.in_features, statistics.gram,
                                statistics.tokens, step * step / 12, linear.name, context.pool);
}

std::string algorithm_of(const WorkingLinear& linear, const SetContext& context) {
  const AlgorithmStack& stack = linear.plan.stack;
  std::vector<std::string> steps;
  if (!context.set.scale.empty()) {
    steps.emplace_back(stack.scaling == ScalingMethod::kAwq ? "AWQ scales" : "SmoothQuant");
  }
  if (!context.correction.empty()) steps.emplace_back("GPTAQ");
  if (noise_step(linear, context) > 0) steps.emplace_back("noise compensation");
  if (linear.plan.sparsity != SparsityMethod::kNone) {
    steps.push_back(sparsity_title(linear.plan.sparsity));
  }
  if (linear.plan.format->quantized) {
    if (stack.search_clip && context.plan.options.clip && !context.gram.empty()) {
      steps.emplace_back("clip search");
    }
    const bool solved = !context.ordered.order.empty() || updates_weights(linear.plan);
    steps.emplace_back(solved ? "GPTQ" : "round to nearest");
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
  if (linear.plan.stack.gptq && !enough_tokens(linear, context.set) && !statistics.gram.empty()) {
    return "round to nearest: " + std::to_string(statistics.tokens) + " tokens are few for " +
           std::to_string(linear.in_features) + " channels";
  }
  if (linear.plan.stack.scaling != ScalingMethod::kNone && context.set.scale.empty() &&
      (linear.plan.stack.scaling == ScalingMethod::kAwq || context.plan.options.smooth)) {
    return "no scaling: none was better than leaving the input alone";
  }
  return {};
}

}  // namespace pare
