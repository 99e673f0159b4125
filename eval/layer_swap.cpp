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
                       std::vector<float> output_scale, std::optional<LowRankAdapter> adapter)
    : linear_(std::move(linear)),
      input_scale_(std::move(input_scale)),
      output_factor_(std::move(output_scale)),
      adapter_(std::move(adapter)) {
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
  if (adapter_) {
    scratch.low.resize(static_cast<size_t>(padded_rows(rows) * adapter_->a.out_features()));
    scratch.adapted.resize(scratch.y.size());
    adapter_->a.prepare(x, rows, scratch.input);
    adapter_->a.multiply(scratch.input, scratch.low.data());
    adapter_->b.prepare(scratch.low.data(), rows, scratch.input);
    adapter_->b.multiply(scratch.input, scratch.adapted.data());
    add_in_place(found, std::span<const float>(scratch.adapted).first(found.size()));
  }
  if (!output_factor_.empty()) multiply_rows(found, output_factor_);
  for (size_t i = 0; i < found.size(); ++i) error.add(y[i], found[i]);
  std::copy(found.begin(), found.end(), y);
}

}  // namespace pare
