#include "kernels/causal_conv.h"

#include <algorithm>
#include <cassert>
#include <string>

#include "pare/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/causal_conv.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: both are read again for each instruction set.
#include "hwy/highway.h"
#include "kernels/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace pare {
namespace HWY_NAMESPACE {
namespace {

/// A block of channels is as wide as its weights fit here (16 KiB, half of a first-level cache),
/// transposed so that a vector holds one tap of many channels.
constexpr size_t kTapSpace = 16 * kLongestConvKernel;

struct ConvBlock {
  const float* x;  // all pointers at the block's first channel
  size_t row_stride;
  const float* state;
  const float* bias;  // or null
  float* out;
  size_t channels;  // from one row of state and out to the next
  size_t width;     // channels of the block
  size_t kernel;
};

/// One row of outputs; at(k) is the row of x under tap k.
/// kTaps is the kernel's length where it is known when this is compiled, else 0.
template <size_t kTaps, class RowAt>
HWY_INLINE void convolve_row(const ConvBlock& block, const float* HWY_RESTRICT taps,
                             const RowAt& at, float* HWY_RESTRICT out) {
  const hn::CappedTag<float, 16> df;
  const size_t lanes = hn::Lanes(df);
  const size_t kernel = kTaps > 0 ? kTaps : block.kernel;
  size_t c = 0;
  for (; c + lanes <= block.width; c += lanes) {
    auto sum = block.bias == nullptr ? hn::Zero(df) : hn::LoadU(df, block.bias + c);
    for (size_t k = 0; k < kernel; ++k) {
      sum = hn::MulAdd(hn::LoadU(df, taps + k * block.width + c), hn::LoadU(df, at(k) + c), sum);
    }
    hn::StoreU(sum, df, out + c);
  }
  if (c == block.width) return;
  const size_t rest = block.width - c;
  auto sum = block.bias == nullptr ? hn::Zero(df) : load_part(df, block.bias + c, rest, 0.0F);
  for (size_t k = 0; k < kernel; ++k) {
    sum = hn::MulAdd(load_part(df, taps + k * block.width + c, rest, 0.0F),
                     load_part(df, at(k) + c, rest, 0.0F), sum);
  }
  store_part(df, sum, out + c, rest);
}

template <size_t kTaps>
void convolve_rows(const ConvBlock& block, const float* HWY_RESTRICT taps, size_t rows) {
  const size_t before = block.kernel - 1;
  for (size_t row = 0; row < rows; ++row) {
    float* out = block.out + row * block.channels;
    if (row >= before) {
      const float* oldest = block.x + (row - before) * block.row_stride;
      convolve_row<kTaps>(
          block, taps, [&](size_t k) { return oldest + k * block.row_stride; }, out);
    } else {
      const auto at = [&](size_t k) {
        return row + k < before ? block.state + (row + k) * block.channels
                                : block.x + (row + k - before) * block.row_stride;
      };
      convolve_row<0>(block, taps, at, out);
    }
  }
}

void causal_conv_kernel(const float* x, size_t rows, size_t row_stride, const float* weight,
                        const float* bias, size_t channels, size_t kernel, const float* state,
                        float* out) {
  HWY_ALIGN float taps[kTapSpace];
  const size_t widest = kTapSpace / kernel / 16 * 16;
  for (size_t first = 0; first < channels; first += widest) {
    const ConvBlock block{.x = x + first,
                          .row_stride = row_stride,
                          .state = kernel == 1 ? state : state + first,  // a null state is empty
                          .bias = bias == nullptr ? nullptr : bias + first,
                          .out = out + first,
                          .channels = channels,
                          .width = channels - first < widest ? channels - first : widest,
                          .kernel = kernel};
    for (size_t c = 0; c < block.width; ++c) {
      for (size_t k = 0; k < kernel; ++k) {
        taps[k * block.width + c] = weight[(first + c) * kernel + k];
      }
    }
    if (kernel == 4) {  // of all published state-space models
      convolve_rows<4>(block, taps, rows);
    } else {
      convolve_rows<0>(block, taps, rows);
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace pare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pare {

HWY_EXPORT(causal_conv_kernel);

namespace {

/// The last kernel − 1 rows of state and x become the state.
void advance_state(const float* x, int64_t rows, int64_t row_stride, int64_t channels,
                   int64_t kernel, std::span<float> state) {
  const int64_t length = kernel - 1;
  const int64_t kept = std::max<int64_t>(0, length - rows);
  std::copy(state.end() - kept * channels, state.end(), state.begin());
  for (int64_t row = kept; row < length; ++row) {
    std::copy_n(x + (rows - length + row) * row_stride, channels, state.begin() + row * channels);
  }
}

}  // namespace

void causal_conv(const float* x, int64_t rows, int64_t row_stride, std::span<const float> weight,
                 std::span<const float> bias, int64_t channels, int64_t kernel,
                 std::span<float> state, float* out) {
  assert(weight.size() == static_cast<size_t>(channels * kernel));
  assert(bias.empty() || bias.size() == static_cast<size_t>(channels));
  assert(state.size() == static_cast<size_t>(channels * (kernel - 1)));
  if (kernel > kLongestConvKernel) {
    throw Error(ErrorCode::kLimitExceeded,
                "causal convolution: a kernel of " + std::to_string(kernel) + " rows; at most " +
                    std::to_string(kLongestConvKernel) + " are supported");
  }
  if (rows == 0) return;
  HWY_DYNAMIC_DISPATCH(causal_conv_kernel)
  (x, static_cast<size_t>(rows), static_cast<size_t>(row_stride), weight.data(),
   bias.empty() ? nullptr : bias.data(), static_cast<size_t>(channels), static_cast<size_t>(kernel),
   state.data(), out);
  advance_state(x, rows, row_stride, channels, kernel, state);
}

void reference::causal_conv(const float* x, int64_t rows, int64_t row_stride,
                            std::span<const float> weight, std::span<const float> bias,
                            int64_t channels, int64_t kernel, std::span<float> state, float* out) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t c = 0; c < channels; ++c) {
      double sum = bias.empty() ? 0 : static_cast<double>(bias[static_cast<size_t>(c)]);
      for (int64_t k = 0; k < kernel; ++k) {
        const int64_t source = row - (kernel - 1) + k;
        const float value = source < 0
                                ? state[static_cast<size_t>((kernel - 1 + source) * channels + c)]
                                : x[source * row_stride + c];
        sum += static_cast<double>(weight[static_cast<size_t>(c * kernel + k)]) *
               static_cast<double>(value);
      }
      out[row * channels + c] = static_cast<float>(sum);
    }
  }
  advance_state(x, rows, row_stride, channels, kernel, state);
}

}  // namespace pare
#endif  // HWY_ONCE
