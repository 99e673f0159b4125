// Plain versions of kernels/vector_math.h: one element at a time, in double, rounded once at the
// end. The vectorised functions are tested against these; nothing else should call them.
//
// Same signatures, same meaning, same thread-safety.
//
//   reference::rms_norm_row(row, weight, 1e-5F, expected);
#pragma once

#include <cstdint>
#include <span>

#include "kernels/vector_math.h"

namespace pare::reference {

float sum_of_squares(std::span<const float> x);
void rms_norm_row(std::span<const float> x, std::span<const float> weight, float epsilon,
                  std::span<float> out);
void layer_norm_row(std::span<const float> x, std::span<const float> weight,
                    std::span<const float> bias, float epsilon, std::span<float> out);

void silu(std::span<float> x);
void gelu_tanh(std::span<float> x);
void gelu_erf(std::span<float> x);
void quick_gelu(std::span<float> x);
void relu(std::span<float> x);
void relu_squared(std::span<float> x);
void silu_multiply(std::span<const float> gate, std::span<const float> up, std::span<float> out);
void gelu_tanh_multiply(std::span<const float> gate, std::span<const float> up,
                        std::span<float> out);
void gelu_erf_multiply(std::span<const float> gate, std::span<const float> up,
                       std::span<float> out);

void quick_gelu_multiply(std::span<const float> gate, std::span<const float> up,
                         std::span<float> out);
void relu_multiply(std::span<const float> gate, std::span<const float> up, std::span<float> out);
void relu_squared_multiply(std::span<const float> gate, std::span<const float> up,
                           std::span<float> out);
void clamped_swiglu(std::span<const float> gate, std::span<const float> up, float alpha,
                    float limit, std::span<float> out);
void sigmoid(std::span<float> x);
void softplus(std::span<float> x);
void soft_cap_in_place(std::span<float> x, float cap);
void clamp_in_place(std::span<float> x, float low, float high);

void add_in_place(std::span<float> x, std::span<const float> y);
void multiply_in_place(std::span<float> x, std::span<const float> y);
void scale_in_place(std::span<float> x, float factor);
void add_scaled(std::span<float> y, float factor, std::span<const float> x);
void add_bias_rows(std::span<float> y, int64_t rows, std::span<const float> bias);
void scale_to_f32(std::span<const int32_t> in, std::span<const float> column_scale, float row_scale,
                  std::span<float> out);

float max_row(std::span<const float> x);
float exp_sum_row(std::span<const float> scores, float scale, float row_max,
                  std::span<uint16_t> probabilities_bf16);
float exp_sum_row(std::span<const float> scores, float scale, float row_max,
                  std::span<float> probabilities);
LogSoftmaxSums log_sum_exp(std::span<const float> logits);
double kl_divergence(std::span<const float> base_logits, double base_log_sum_exp,
                     std::span<const float> logits, double log_sum_exp);
double excess_probability(std::span<const float> logits, double log_sum_exp,
                          std::span<const float> other_logits, double other_log_sum_exp);

void rotate_half(std::span<float> head, std::span<const float> cosine, std::span<const float> sine);
void rotate_interleaved(std::span<float> head, std::span<const float> cosine,
                        std::span<const float> sine);

}  // namespace pare::reference
