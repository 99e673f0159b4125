#include "eval/layer_swap.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "kernels/vector_math.h"

namespace pare {
namespace {

constexpr double kLargestDecibel = 300;

void multiply_rows(std::span<float> values, std::span<const float> factors) {
  for (size_t row = 0; row < values.size(); row += factors.size()) {
    multiply_in_place(values.subspan(row, factors.size()), factors);
  }
}

}  // namespace

std::optional<double> OutputError::decibel() const {
  if (noise == 0) return std::nullopt;
  if (signal == 0) return -kLargestDecibel;
  return std::clamp(10 * std::log10(signal / noise), -kLargestDecibel, kLargestDecibel);
}

LinearSwap::LinearSwap(Linear linear, std::vector<float> input_scale,
                       std::vector<float> output_scale)
    : linear_(std::move(linear)),
      input_scale_(std::move(input_scale)),
      output_factor_(std::move(output_scale)) {
  for (float& factor : output_factor_) factor = 1.0F / factor;
}

void LinearSwap::replace(int64_t rows, const float* x, float* y, SwapScratch& scratch,
                         OutputError& error) const {
  const int64_t out = linear_.out_features();
  if (!input_scale_.empty()) {
    scratch.x.assign(x, x + rows * linear_.in_features());
    multiply_rows(scratch.x, input_scale_);
    x = scratch.x.data();
  }
  scratch.y.resize(static_cast<size_t>(padded_rows(rows) * out));
  linear_.prepare(x, rows, scratch.input);
  linear_.multiply(scratch.input, scratch.y.data());
  const std::span<float> found(scratch.y.data(), static_cast<size_t>(rows * out));
  if (!output_factor_.empty()) multiply_rows(found, output_factor_);
  for (size_t i = 0; i < found.size(); ++i) error.add(y[i], found[i]);
  std::copy(found.begin(), found.end(), y);
}

}  // namespace pare
