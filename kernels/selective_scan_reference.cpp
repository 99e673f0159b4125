#include <cmath>
#include <vector>

#include "kernels/selective_scan.h"

namespace pare::reference {
namespace {

double wide(float x) { return static_cast<double>(x); }

int64_t stride_or(int64_t stride, int64_t dense) { return stride == 0 ? dense : stride; }

}  // namespace

void selective_scan(const SelectiveScanInput& input, std::span<const float> a,
                    std::span<const float> d, int64_t channels, int64_t state_size,
                    std::span<float> state, float* y) {
  std::vector<double> h(state.begin(), state.end());
  for (int64_t row = 0; row < input.rows; ++row) {
    const float* b = input.b + row * stride_or(input.b_stride, state_size);
    const float* c = input.c + row * stride_or(input.c_stride, state_size);
    for (int64_t channel = 0; channel < channels; ++channel) {
      const double x = wide(input.x[row * stride_or(input.x_stride, channels) + channel]);
      const double dt = wide(input.dt[row * stride_or(input.dt_stride, channels) + channel]);
      double sum = d.empty() ? 0 : wide(d[static_cast<size_t>(channel)]) * x;
      for (int64_t n = 0; n < state_size; ++n) {
        const auto index = static_cast<size_t>(channel * state_size + n);
        h[index] = std::exp(dt * wide(a[index])) * h[index] + dt * x * wide(b[n]);
        sum += wide(c[n]) * h[index];
      }
      y[row * channels + channel] = static_cast<float>(sum);
    }
  }
  for (size_t i = 0; i < h.size(); ++i) state[i] = static_cast<float>(h[i]);
}

void state_space_scan(const float* x, const float* dt, const float* b, const float* c, int64_t rows,
                      std::span<const float> a, std::span<const float> d,
                      const StateSpaceShape& shape, std::span<float> state, float* y) {
  const int64_t width = shape.heads * shape.head_dim;
  const int64_t shared = shape.groups * shape.state_size;
  std::vector<double> h(state.begin(), state.end());
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t channel = 0; channel < width; ++channel) {
      const int64_t head = channel / shape.head_dim;
      const int64_t group = head * shape.groups / shape.heads * shape.state_size;
      const double value = wide(x[row * stride_or(shape.x_stride, width) + channel]);
      const double step = wide(dt[row * stride_or(shape.dt_stride, shape.heads) + head]);
      const double decay = std::exp(step * wide(a[static_cast<size_t>(head)]));
      double sum = d.empty() ? 0 : wide(d[static_cast<size_t>(head)]) * value;
      for (int64_t n = 0; n < shape.state_size; ++n) {
        double& number = h[static_cast<size_t>(channel * shape.state_size + n)];
        number = decay * number +
                 step * value * wide(b[row * stride_or(shape.b_stride, shared) + group + n]);
        sum += wide(c[row * stride_or(shape.c_stride, shared) + group + n]) * number;
      }
      y[row * width + channel] = static_cast<float>(sum);
    }
  }
  for (size_t i = 0; i < h.size(); ++i) state[i] = static_cast<float>(h[i]);
}

}  // namespace pare::reference
