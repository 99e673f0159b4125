// Elementwise functions, reductions and the pieces of a softmax, on rows of floats.
//
// These are what a model's forward pass needs between its matrix products. Each is vectorised for
// the processor it runs on (chosen at run time); kernels/vector_math_reference.h holds the plain
// version. On one processor a result depends on the values alone: the order of every sum is fixed
// by the length of the row, never by its address or by threads. Nothing is allocated; all functions
// are safe to call from several threads on different outputs. An output may be the very same memory
// as an input of the same element type (in place), but must not overlap it otherwise. Sizes that
// must agree are the caller's duty and are asserted in debug builds.
//
//   rms_norm_row(row, weight, 1e-5F, normed);
//   silu_multiply(gate, up, hidden);
//   const LogSoftmaxSums sums = log_sum_exp(logits);
//   const double nll = sums.log_sum_exp - logits[target];
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace pare {

/// The instruction set that these functions use here, such as "AVX3_ZEN4".
std::string vector_kernels();

/// Sum of x², taken in double: the float nearest to the exact sum, or its neighbour. 0 for an empty
/// span.
float sum_of_squares(std::span<const float> x);

/// out = x / sqrt(mean(x²) + epsilon) × weight. All three have the same size, at least one; an
/// empty `weight` is one everywhere. Each element is within 4 ulp of the exact value.
void rms_norm_row(std::span<const float> x, std::span<const float> weight, float epsilon,
                  std::span<float> out);

/// out = (x − mean(x)) / sqrt(variance(x) + epsilon) × weight + bias, with the biased variance,
/// computed from the centred values. `bias` may be empty, then it is zero; so may `weight`, then
/// it is one.
void layer_norm_row(std::span<const float> x, std::span<const float> weight,
                    std::span<const float> bias, float epsilon, std::span<float> out);

// Activations. The relative error of SiLU and of quick GELU is below 1e-6, and their absolute error
// below 1e-36 where they fade to −0. GELU's relative error is below 1e-6 for x > −3; further down,
// its absolute error is below 1e-8.

/// x / (1 + exp(−x)), in place.
void silu(std::span<float> x);
/// 0.5 x (1 + tanh(sqrt(2/π) (x + 0.044715 x³))), in place.
void gelu_tanh(std::span<float> x);
/// 0.5 x (1 + erf(x / sqrt(2))), in place.
void gelu_erf(std::span<float> x);
/// x / (1 + exp(−1.702 x)), in place (Hendrycks & Gimpel, 2016, arXiv:1606.08415).
void quick_gelu(std::span<float> x);
/// max(x, 0), in place.
void relu(std::span<float> x);
/// max(x, 0)², in place.
void relu_squared(std::span<float> x);

/// out = activation(gate) × up. All three have the same size.
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

/// gpt-oss: out = (u + 1) × g / (1 + exp(−alpha g)), with g = min(gate, limit) and u = up kept
/// within ±limit. Errors as of quick GELU. REQUIRES: alpha > 0, limit > 0.
void clamped_swiglu(std::span<const float> gate, std::span<const float> up, float alpha,
                    float limit, std::span<float> out);

/// 1 / (1 + exp(−x)), in place; relative error below 4e-7, absolute below 1e-37 where it fades.
void sigmoid(std::span<float> x);
/// log(1 + exp(x)), in place; relative error below 4e-7, absolute below 2e-38 where it fades.
void softplus(std::span<float> x);
/// cap × tanh(x / cap), in place; relative error below 4e-7. REQUIRES: cap > 0.
void soft_cap_in_place(std::span<float> x, float cap);
/// min(max(x, low), high), in place. NaN stays NaN.
void clamp_in_place(std::span<float> x, float low, float high);

/// x += y and x ×= y. Exactly the float result.
void add_in_place(std::span<float> x, std::span<const float> y);
void multiply_in_place(std::span<float> x, std::span<const float> y);
/// x ×= factor. Exactly the float result.
void scale_in_place(std::span<float> x, float factor);

/// y += factor × x, the product and the sum each rounded.
void add_scaled(std::span<float> y, float factor, std::span<const float> x);

/// y[r, :] += bias for each of the rows; y is [rows, bias.size()].
void add_bias_rows(std::span<float> y, int64_t rows, std::span<const float> bias);

/// out[i] = float(in[i]) × (row_scale × column_scale[i]), each product rounded to float.
/// `column_scale` has in.size() elements or one, which then holds for all.
void scale_to_f32(std::span<const int32_t> in, std::span<const float> column_scale, float row_scale,
                  std::span<float> out);

/// Largest element; negative infinity for an empty span. NaN if any element is NaN.
float max_row(std::span<const float> x);

/// probabilities[i] = exp(scores[i] × scale − row_max), unnormalised, and their sum (of the values
/// before they are rounded to bfloat16). `row_max` is the largest scores[i] × scale, or anything
/// that keeps the exponents below 80. A score of negative infinity gives exactly 0. Relative error
/// of each value below 3e-7 for exponents above −80; from −87.3 down it is 0.
float exp_sum_row(std::span<const float> scores, float scale, float row_max,
                  std::span<uint16_t> probabilities_bf16);
float exp_sum_row(std::span<const float> scores, float scale, float row_max,
                  std::span<float> probabilities);

/// What a softmax over one row of logits needs.
struct LogSoftmaxSums {
  float max = 0;           ///< Largest logit.
  int64_t argmax = 0;      ///< Its index, the lowest of equals.
  double log_sum_exp = 0;  ///< log Σ exp(logit), to 3e-7 absolute.
};

/// REQUIRES: at least one logit. Exponentials in float, the sums of each 1024 in double. If any
/// logit is NaN, max and log_sum_exp are NaN and argmax is 0.
LogSoftmaxSums log_sum_exp(std::span<const float> logits);

/// KL(p ‖ q) = Σ p (log p − log q), in nats, of the distributions of two rows of logits, given the
/// log_sum_exp of each, from log_sum_exp(). Computed as Σ (p (log p − log q) − p + q), whose terms
/// are all at least 0 and of second order in the difference: never negative, exactly 0 for a row
/// and itself, relative error about 1e-5 (plus 1e-9 absolute) for a small divergence as for a large
/// one. Exponentials in float, the sums of each 1024 in double. A base logit of negative infinity
/// is p = 0 and contributes q, as the formula says; q = 0 < p gives infinity.
double kl_divergence(std::span<const float> base_logits, double base_log_sum_exp,
                     std::span<const float> logits, double log_sum_exp);

/// Σ max(p − q, 0) of the distributions of two rows of logits over the same tokens, given the
/// log_sum_exp of each, which must be finite: the probability under p that q does not cover. Where
/// both sum to one it is their total variation distance ½ Σ |p − q|; the rows may also be equal
/// parts of longer ones. Never negative, exactly 0 for a row and itself, absolute error below 1e-6.
/// Exponentials in float, the sums of each 1024 in double. A logit of negative infinity is
/// probability 0.
double excess_probability(std::span<const float> logits, double log_sum_exp,
                          std::span<const float> other_logits, double other_log_sum_exp);

/// Rotary embedding in the half-split layout, in place, on the first r = 2 × cosine.size()
/// channels of one head: (x1, x2) becomes (x1 c − x2 s, x2 c + x1 s), with x1 = head[0, r/2) and
/// x2 = head[r/2, r). Channels from r on are untouched.
void rotate_half(std::span<float> head, std::span<const float> cosine, std::span<const float> sine);

/// The same for neighbours (GPT-J, GLM): x1 = head[2i] and x2 = head[2i + 1].
void rotate_interleaved(std::span<float> head, std::span<const float> cosine,
                        std::span<const float> sine);

}  // namespace pare
