// With e = x − Q(x / s) s and dW = W − Q(W s) / s, the layer's output changes by
//
//   x Wᵀ − Q(x/s) Q(W s)ᵀ = e Wᵀ + x dWᵀ − e dWᵀ.
//
// The two roundings are independent, so the mean squares of the first two terms add, and the third
// is of second order. The weight term is Σ dW H dWᵀ on the Gram matrix H of all tokens. The
// activation term is Σ e G eᵀ on the Gram matrix G = Wᵀ W of the weights, over the tokens that
// calibration sampled; without a sample, e is taken as uniform noise of the step's width:
// step² / 12 × Σ_j s_j² G_jj.
#include "quant/smoothquant.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "kernels/codec.h"
#include "pare/error.h"
#include "quant/blas.h"
#include "quant/grid_rounding.h"
#include "quant/input_scale.h"
#include "quant/output_error.h"
#include "quant/row_blocks.h"
#include "quant/scaled_error.h"

namespace pare {
namespace {

constexpr int kStrengthSteps = 20;  // of 0.05
constexpr GridSpec kWeightSpec = {WeightFormat::kInt8, kPerChannel, true};

/// Σ Wᵀ W over the linears, in fixed blocks of its own rows.
std::vector<float> weight_gram(const LinearGroup& group, ThreadPool& pool) {
  const int64_t columns = group.in_features;
  std::vector<float> gram(static_cast<size_t>(columns * columns));
  for_row_blocks(columns, pool, [&](int64_t begin, int64_t end) {
    for (const GroupLinear& linear : group.linears) {
      add_gram_rows(linear.weight, linear.out_features, columns, begin, end, gram);
    }
  });
  return gram;
}

class Objective {
 public:
  Objective(const LinearGroup& group, bool dynamic, ThreadPool& pool)
      : group_(group), dynamic_(dynamic), pool_(pool), gram_(group_gram(group)) {
    use_single_threaded_blas();
    weight_gram_ = weight_gram(group, pool);
    energy_ = output_energy(group, gram_, pool);
    sample_.resize(group.statistics->sample.size());
    bf16_to_f32(group.statistics->sample, sample_);
  }

  double energy() const noexcept { return energy_; }

  /// Relative output error with the input scale s.
  double operator()(std::span<const float> scale) const {
    const double weight_error = absmax_scaled_error(group_, scale, kWeightSpec, gram_, pool_);
    const double activation_error =
        sample_.empty() ? modelled_activation_error(scale) : sampled_activation_error(scale);
    return (weight_error + activation_error) / energy_;
  }

 private:
  /// The static step: the range of all calibration tokens after scaling.
  float static_step(std::span<const float> scale) const {
    float largest = 0;
    for (size_t i = 0; i < scale.size(); ++i) {
      largest = std::max(largest, group_.statistics->amax[i] / scale[i]);
    }
    return scale_for_range(WeightFormat::kInt8, true, {-largest, largest}).scale;
  }

  double sampled_activation_error(std::span<const float> scale) const {
    const size_t columns = scale.size();
    const int64_t tokens = group_.statistics->sample_tokens;
    std::vector<float> error(sample_.size());
    const RunScale fixed = {static_step(scale), 0};
    for_row_blocks(tokens, pool_, [&](int64_t begin, int64_t end) {
      for (auto token = static_cast<size_t>(begin); token < static_cast<size_t>(end); ++token) {
        const float* in = sample_.data() + token * columns;
        const std::span<float> out(error.data() + token * columns, columns);
        for (size_t i = 0; i < columns; ++i) out[i] = in[i] / scale[i];
        const RunScale run =
            dynamic_ ? scale_for_range(WeightFormat::kInt8, true, value_range(out)) : fixed;
        round_values(WeightFormat::kInt8, true, run, out, out);
        for (size_t i = 0; i < columns; ++i) out[i] = in[i] - out[i] * scale[i];
      }
    });
    return output_error(error, tokens, group_.in_features, weight_gram_, pool_) /
           static_cast<double>(tokens);
  }

  /// Uniform noise of one step's width on every channel. For dynamic steps, which follow each
  /// token, the static step is an upper bound with the same dependence on s.
  double modelled_activation_error(std::span<const float> scale) const {
    const auto step = static_cast<double>(static_step(scale));
    double sum = 0;
    for (size_t i = 0; i < scale.size(); ++i) {
      const auto factor = static_cast<double>(scale[i]);
      sum += factor * factor * static_cast<double>(weight_gram_[i * (scale.size() + 1)]);
    }
    return step * step / 12.0 * sum;
  }

  const LinearGroup& group_;
  bool dynamic_;
  ThreadPool& pool_;
  std::vector<float> gram_;
  std::vector<float> weight_gram_;
  std::vector<float> sample_;
  double energy_ = 0;
};

/// visit(channel, weight) for all weights of the group.
template <typename Visit>
void for_each_weight(const LinearGroup& group, Visit visit) {
  const auto columns = static_cast<size_t>(group.in_features);
  for (const GroupLinear& linear : group.linears) {
    for (size_t first = 0; first < linear.weight.size(); first += columns) {
      for (size_t i = 0; i < columns; ++i) visit(i, linear.weight[first + i]);
    }
  }
}

/// Largest magnitude of each input channel's weights over the group.
std::vector<float> weight_absmax(const LinearGroup& group) {
  std::vector<float> absmax(static_cast<size_t>(group.in_features));
  for_each_weight(group, [&](size_t channel, float value) {
    absmax[channel] = std::max(absmax[channel], std::abs(value));
  });
  return absmax;
}

/// Euclidean norm of each input channel's weights over the group.
std::vector<float> weight_norm(const LinearGroup& group) {
  std::vector<double> sum(static_cast<size_t>(group.in_features));
  for_each_weight(group, [&](size_t channel, float value) {
    sum[channel] += static_cast<double>(value) * static_cast<double>(value);
  });
  std::vector<float> norm;
  norm.reserve(sum.size());
  for (const double energy : sum) norm.push_back(static_cast<float>(std::sqrt(energy)));
  return norm;
}

// What stands for a channel's size: its range, as in the paper, or a moment of it.
//
// A static step follows the range. A token's own step follows the token's largest channel, which
// changes from token to token: with that maximum as a norm of order p, the noise
// Σ_t ‖x_t / s‖_p² × Σ_j s_j² G_jj is least about where s_j = (E|x_j|^p / G_jj)^(1 / (p + 2)). That
// is a moment in place of the range, the norm of the weight's column in place of its largest value,
// and α = p / (p + 2). The moment is taken a third of the way from the root mean square to the
// range.
enum class ChannelSize : uint8_t { kRange, kMoment };

class Smoother {
 public:
  Smoother(const LinearGroup& group, ChannelSize size)
      : size_(size),
        active_(active_channels(group)),
        activation_(group.statistics->amax),
        weight_(size == ChannelSize::kRange ? weight_absmax(group) : weight_norm(group)) {
    if (size == ChannelSize::kMoment) to_moment(*group.statistics);
    merge_tied_max(group, activation_);
    merge_tied_max(group, weight_);
    // A column of zeros would ask for an infinite scale; any large one is as good.
    const float floor = *std::max_element(weight_.begin(), weight_.end()) * 1e-4F;
    for (float& value : weight_) value = std::max(value, floor);
  }

  std::vector<float> scale(double strength) const {
    std::vector<float> scale(activation_.size());
    for (size_t i = 0; i < scale.size(); ++i) {
      scale[i] = static_cast<float>(std::pow(static_cast<double>(activation_[i]), strength) /
                                    std::pow(static_cast<double>(weight_[i]), 1 - strength));
    }
    normalize_scale(active_, scale);
    return scale;
  }

  std::string detail(double strength) const {
    char text[48];
    const char* of = size_ == ChannelSize::kMoment ? ", of moments" : "";
    std::snprintf(text, sizeof text, "strength %.2f%s", strength, of);
    return text;
  }

 private:
  void to_moment(const InputStatistics& statistics) {
    for (size_t i = 0; i < activation_.size(); ++i) {
      const double mean = statistics.square_sum[i] / static_cast<double>(statistics.tokens);
      activation_[i] =
          static_cast<float>(std::cbrt(static_cast<double>(activation_[i]) * std::max(mean, 0.0)));
    }
  }

  ChannelSize size_;
  std::vector<uint8_t> active_;
  std::vector<float> activation_;
  std::vector<float> weight_;
};

}  // namespace

InputScaling search_smoothquant(const LinearGroup& group, const SmoothQuantOptions& options,
                                ThreadPool& pool) {
  check_group(group);
  if (options.strength > 1) {
    throw Error(ErrorCode::kUsage, "SmoothQuant strength must lie in 0 … 1, found " +
                                       std::to_string(options.strength));
  }
  const Objective objective(group, options.dynamic_activations, pool);
  InputScaling result;
  if (!(objective.energy() > 0)) {
    result.detail = "identity: no output to measure";
    return result;
  }
  const std::vector<float> ones(static_cast<size_t>(group.in_features), 1.0F);
  result.identity_loss = objective(ones);
  if (options.strength >= 0) {
    const Smoother smoother(group, ChannelSize::kRange);
    result.scale = smoother.scale(options.strength);
    result.loss = objective(result.scale);
    result.detail = smoother.detail(options.strength);
    return result;
  }
  result.loss = result.identity_loss;
  result.detail = "identity";
  std::vector<Smoother> smoothers = {Smoother(group, ChannelSize::kRange)};
  if (options.dynamic_activations) smoothers.emplace_back(group, ChannelSize::kMoment);
  int best_step = -1;
  const Smoother* best = nullptr;
  const auto try_step = [&](const Smoother& smoother, int step) {
    if (step < 0 || step > kStrengthSteps) return;
    const double strength = static_cast<double>(step) / kStrengthSteps;
    std::vector<float> scale = smoother.scale(strength);
    const double loss = objective(scale);
    if (!(loss < result.loss)) return;
    result.loss = loss;
    result.scale = std::move(scale);
    result.detail = smoother.detail(strength);
    best_step = step;
    best = &smoother;
  };
  for (const Smoother& smoother : smoothers) {
    for (int step = 0; step <= kStrengthSteps; step += 2) try_step(smoother, step);
  }
  // Between the coarse steps, on both sides of the best.
  if (best != nullptr) {
    const int middle = best_step;
    const Smoother& smoother = *best;
    try_step(smoother, middle - 1);
    try_step(smoother, middle + 1);
  }
  return result;
}

}  // namespace pare
