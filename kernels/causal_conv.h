// Depthwise causal convolution over time, with the rows before a block carried in a state.
//
// Each output element is one chain of multiply-adds, so that cutting a sequence into calls changes
// nothing. Nothing is allocated. Safe from several threads on different states and outputs.
//
//   std::vector<float> state((kernel - 1) * channels);  // zeros: a sequence begins
//   causal_conv(x, rows, channels, weight, bias, channels, kernel, state, out);
#pragma once

#include <cstdint>
#include <span>

namespace pare {

inline constexpr int64_t kLongestConvKernel = 256;

/// out[t, c] = bias[c] + Σ_k weight[c, k] × x[t − (kernel − 1) + k, c].
///
/// x [rows, channels], `row_stride` elements from row to row; weight [channels, kernel]; bias
/// [channels] or empty; state [kernel − 1, channels], the rows before row 0, oldest first, replaced
/// by the last kernel − 1 rows of state and x; out [rows, channels], which must not overlap x.
/// Throws Error(kLimitExceeded) for a kernel longer than kLongestConvKernel.
void causal_conv(const float* x, int64_t rows, int64_t row_stride, std::span<const float> weight,
                 std::span<const float> bias, int64_t channels, int64_t kernel,
                 std::span<float> state, float* out);

namespace reference {
/// The same with plain loops in double, rounded once.
void causal_conv(const float* x, int64_t rows, int64_t row_stride, std::span<const float> weight,
                 std::span<const float> bias, int64_t channels, int64_t kernel,
                 std::span<float> state, float* out);
}  // namespace reference

}  // namespace pare
