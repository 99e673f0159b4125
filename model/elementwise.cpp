#include "model/elementwise.h"

#include <algorithm>

#include "kernels/vector_math.h"
#include "pare/error.h"

namespace pare {
namespace {

// gpt-oss' own constants (its published model code).
constexpr float kSwigluLimit = 7;
constexpr float kSwigluAlpha = 1.702F;

}  // namespace

void activate(Activation activation, std::span<float> x) {
  switch (activation) {
    case Activation::kSilu:
      return silu(x);
    case Activation::kGeluTanh:
      return gelu_tanh(x);
    case Activation::kGeluErf:
      return gelu_erf(x);
    case Activation::kQuickGelu:
      return quick_gelu(x);
    case Activation::kRelu:
      return relu(x);
    case Activation::kReluSquared:
      return relu_squared(x);
    case Activation::kClampedSwiglu:
      throw Error(ErrorCode::kInternal, "clamped SwiGLU needs a gate");
  }
}

void gated_activation(Activation activation, std::span<const float> gate, std::span<const float> up,
                      std::span<float> out) {
  switch (activation) {
    case Activation::kSilu:
      return silu_multiply(gate, up, out);
    case Activation::kGeluTanh:
      return gelu_tanh_multiply(gate, up, out);
    case Activation::kGeluErf:
      return gelu_erf_multiply(gate, up, out);
    case Activation::kQuickGelu:
      return quick_gelu_multiply(gate, up, out);
    case Activation::kRelu:
      return relu_multiply(gate, up, out);
    case Activation::kReluSquared:
      return relu_squared_multiply(gate, up, out);
    case Activation::kClampedSwiglu:
      return clamped_swiglu(gate, up, kSwigluAlpha, kSwigluLimit, out);
  }
}

void slice_rows(const SliceSpec& slice, int64_t rows, std::span<const float> in,
                std::span<float> out) {
  const auto in_width = static_cast<int64_t>(in.size()) / rows;
  const auto out_width = static_cast<int64_t>(out.size()) / rows;
  for (int64_t row = 0; row < rows; ++row) {
    const float* source = in.data() + row * in_width;
    float* target = out.data() + row * out_width;
    for (int64_t channel = 0; channel < out_width; channel += slice.count) {
      std::copy_n(source + slice.source(channel), slice.count, target + channel);
    }
  }
}

void join_heads(int64_t heads, int64_t rows, std::span<const float> each,
                std::span<const float> shared, std::span<float> out) {
  const auto head = static_cast<int64_t>(each.size()) / (rows * heads);
  const auto tail = static_cast<int64_t>(shared.size()) / rows;
  const float* source = each.data();
  float* target = out.data();
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t h = 0; h < heads; ++h) {
      target = std::copy_n(source, head, target);
      target = std::copy_n(shared.data() + row * tail, tail, target);
      source += head;
    }
  }
}

}  // namespace pare
