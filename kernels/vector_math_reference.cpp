#include "kernels/vector_math_reference.h"

#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>

#include "core/dtype.h"

namespace pare::reference {
namespace {

double wide(float x) { return static_cast<double>(x); }
float narrow(double x) { return static_cast<float>(x); }

double silu_of(double x) { return x / (1 + std::exp(-x)); }

double gelu_tanh_of(double x) {
  // 0.5 (1 + tanh(u)) = 1 / (1 + exp(−2u)), which does not cancel for negative u.
  const double u = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
  return x / (1 + std::exp(-2 * u));
}

double gelu_erf_of(double x) { return 0.5 * x * std::erfc(-x / std::numbers::sqrt2); }

double quick_gelu_of(double x) { return x / (1 + std::exp(-wide(1.702F) * x)); }

template <typename F>
void apply(std::span<float> x, F f) {
  for (float& value : x) value = narrow(f(wide(value)));
}

template <typename F>
void apply_gate(std::span<const float> gate, std::span<const float> up, std::span<float> out, F f) {
  for (size_t i = 0; i < out.size(); ++i) out[i] = narrow(f(wide(gate[i])) * wide(up[i]));
}

double squares(std::span<const float> x, double centre) {
  double sum = 0;
  for (const float value : x) sum += (wide(value) - centre) * (wide(value) - centre);
  return sum;
}

}  // namespace

float sum_of_squares(std::span<const float> x) { return narrow(squares(x, 0)); }

void rms_norm_row(std::span<const float> x, std::span<const float> weight, float epsilon,
                  std::span<float> out) {
  const double mean = squares(x, 0) / static_cast<double>(x.size());
  const double root = std::sqrt(mean + wide(epsilon));
  for (size_t i = 0; i < x.size(); ++i) {
    out[i] = narrow(wide(x[i]) / root * (weight.empty() ? 1.0 : wide(weight[i])));
  }
}

void layer_norm_row(std::span<const float> x, std::span<const float> weight,
                    std::span<const float> bias, float epsilon, std::span<float> out) {
  double mean = 0;
  for (const float value : x) mean += wide(value);
  mean /= static_cast<double>(x.size());
  const double variance = squares(x, mean) / static_cast<double>(x.size());
  const double root = std::sqrt(variance + wide(epsilon));
  for (size_t i = 0; i < x.size(); ++i) {
    const double scaled = (wide(x[i]) - mean) / root * (weight.empty() ? 1.0 : wide(weight[i]));
    out[i] = narrow(scaled + (bias.empty() ? 0.0 : wide(bias[i])));
  }
}

void silu(std::span<float> x) { apply(x, silu_of); }
void gelu_tanh(std::span<float> x) { apply(x, gelu_tanh_of); }
void gelu_erf(std::span<float> x) { apply(x, gelu_erf_of); }

void quick_gelu(std::span<float> x) { apply(x, quick_gelu_of); }

void sigmoid(std::span<float> x) {
  apply(x, [](double value) { return 1 / (1 + std::exp(-value)); });
}

void softplus(std::span<float> x) {
  apply(x, [](double value) {
    return (value > 0 ? value : 0) + std::log1p(std::exp(-std::abs(value)));
  });
}

void soft_cap_in_place(std::span<float> x, float cap) {
  apply(x, [&](double value) { return wide(cap) * std::tanh(value / wide(cap)); });
}

void clamp_in_place(std::span<float> x, float low, float high) {
  for (float& value : x) value = value < low ? low : value > high ? high : value;
}

void relu(std::span<float> x) {
  for (float& value : x) value = value < 0 ? 0 : value;
}

void relu_squared(std::span<float> x) {
  for (float& value : x) value = value < 0 ? 0 : value * value;
}

void silu_multiply(std::span<const float> gate, std::span<const float> up, std::span<float> out) {
  apply_gate(gate, up, out, silu_of);
}
void gelu_tanh_multiply(std::span<const float> gate, std::span<const float> up,
                        std::span<float> out) {
  apply_gate(gate, up, out, gelu_tanh_of);
}
void gelu_erf_multiply(std::span<const float> gate, std::span<const float> up,
                       std::span<float> out) {
  apply_gate(gate, up, out, gelu_erf_of);
}

void quick_gelu_multiply(std::span<const float> gate, std::span<const float> up,
                         std::span<float> out) {
  apply_gate(gate, up, out, quick_gelu_of);
}
void relu_multiply(std::span<const float> gate, std::span<const float> up, std::span<float> out) {
  apply_gate(gate, up, out, [](double x) { return x < 0 ? 0 : x; });
}
void relu_squared_multiply(std::span<const float> gate, std::span<const float> up,
                           std::span<float> out) {
  // Rounded between, as the vectorised one.
  for (size_t i = 0; i < out.size(); ++i) out[i] = gate[i] < 0 ? 0 : gate[i] * gate[i] * up[i];
}

void clamped_swiglu(std::span<const float> gate, std::span<const float> up, float alpha,
                    float limit, std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    const double g = gate[i] > limit ? wide(limit) : wide(gate[i]);
    const double u = up[i] > limit ? wide(limit) : up[i] < -limit ? -wide(limit) : wide(up[i]);
    out[i] = narrow((u + 1) * g / (1 + std::exp(-wide(alpha) * g)));
  }
}

void add_scaled(std::span<float> y, float factor, std::span<const float> x) {
  for (size_t i = 0; i < y.size(); ++i) y[i] += factor * x[i];
}

void add_in_place(std::span<float> x, std::span<const float> y) {
  for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
}

void multiply_in_place(std::span<float> x, std::span<const float> y) {
  for (size_t i = 0; i < x.size(); ++i) x[i] *= y[i];
}

void scale_in_place(std::span<float> x, float factor) {
  for (float& value : x) value *= factor;
}

void add_bias_rows(std::span<float> y, int64_t rows, std::span<const float> bias) {
  for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
    add_in_place(y.subspan(row * bias.size(), bias.size()), bias);
  }
}

void scale_to_f32(std::span<const int32_t> in, std::span<const float> column_scale, float row_scale,
                  std::span<float> out) {
  for (size_t i = 0; i < in.size(); ++i) {
    const float scale = row_scale * column_scale[column_scale.size() == 1 ? 0 : i];
    out[i] = static_cast<float>(in[i]) * scale;
  }
}

float max_row(std::span<const float> x) {
  float max = -std::numeric_limits<float>::infinity();
  for (const float value : x) {
    if (std::isnan(value)) return std::numeric_limits<float>::quiet_NaN();
    if (value > max) max = value;
  }
  return max;
}

float exp_sum_row(std::span<const float> scores, float scale, float row_max,
                  std::span<uint16_t> probabilities_bf16) {
  double sum = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    const double value = std::exp(wide(scores[i] * scale - row_max));
    probabilities_bf16[i] = f32_to_bf16(narrow(value));
    sum += value;
  }
  return narrow(sum);
}

float exp_sum_row(std::span<const float> scores, float scale, float row_max,
                  std::span<float> probabilities) {
  double sum = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    const double value = std::exp(wide(scores[i] * scale - row_max));
    probabilities[i] = narrow(value);
    sum += value;
  }
  return narrow(sum);
}

LogSoftmaxSums log_sum_exp(std::span<const float> logits) {
  LogSoftmaxSums sums;
  sums.max = max_row(logits);
  sums.log_sum_exp = wide(sums.max);
  if (std::isnan(sums.max)) return sums;
  while (logits[static_cast<size_t>(sums.argmax)] != sums.max) ++sums.argmax;
  if (std::isinf(sums.max)) return sums;
  double total = 0;
  for (const float logit : logits) total += std::exp(wide(logit) - wide(sums.max));
  sums.log_sum_exp += std::log(total);
  return sums;
}

double kl_divergence(std::span<const float> base_logits, double base_log_sum_exp,
                     std::span<const float> logits, double log_sum_exp) {
  double sum = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double log_p = wide(base_logits[i]) - base_log_sum_exp;
    const double log_q = wide(logits[i]) - log_sum_exp;
    const double p = std::exp(log_p);
    if (p > 0) sum += p * (log_p - log_q);
  }
  return sum;
}

double excess_probability(std::span<const float> logits, double log_sum_exp,
                          std::span<const float> other_logits, double other_log_sum_exp) {
  double sum = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double p = std::exp(wide(logits[i]) - log_sum_exp);
    const double q = std::exp(wide(other_logits[i]) - other_log_sum_exp);
    if (p > q) sum += p - q;
  }
  return sum;
}

void rotate_half(std::span<float> head, std::span<const float> cosine,
                 std::span<const float> sine) {
  const size_t half = cosine.size();
  for (size_t i = 0; i < half; ++i) {
    const float x1 = head[i];
    const float x2 = head[half + i];
    head[i] = x1 * cosine[i] - x2 * sine[i];
    head[half + i] = x2 * cosine[i] + x1 * sine[i];
  }
}

void rotate_interleaved(std::span<float> head, std::span<const float> cosine,
                        std::span<const float> sine) {
  for (size_t i = 0; i < cosine.size(); ++i) {
    const float x1 = head[2 * i];
    const float x2 = head[2 * i + 1];
    head[2 * i] = x1 * cosine[i] - x2 * sine[i];
    head[2 * i + 1] = x2 * cosine[i] + x1 * sine[i];
  }
}

}  // namespace pare::reference
