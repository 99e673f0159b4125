#include "calib/statistics.h"

#include <cmath>
#include <string>

#include "core/dtype.h"
#include "pare/error.h"

namespace pare {

InputStatistics rescale(InputStatistics scaled, const std::vector<float>& input_scale) {
  if (input_scale.empty()) return scaled;
  const auto channels = static_cast<size_t>(scaled.in_features);
  if (input_scale.size() != channels) {
    throw Error(ErrorCode::kInternal, "statistics: input scale has " +
                                          std::to_string(input_scale.size()) +
                                          " channels, expected " + std::to_string(channels));
  }
  for (size_t i = 0; i < channels; ++i) {
    const float magnitude = std::abs(input_scale[i]);
    if (!scaled.amax.empty()) scaled.amax[i] *= magnitude;
    if (!scaled.mean_abs.empty()) scaled.mean_abs[i] *= magnitude;
    const auto scale = static_cast<double>(input_scale[i]);
    if (!scaled.square_sum.empty()) scaled.square_sum[i] *= scale * scale;
  }
  for (std::vector<double>* matrix : {&scaled.gram, &scaled.mismatch}) {
    for (size_t i = 0; i < channels && !matrix->empty(); ++i) {
      for (size_t j = 0; j < channels; ++j) {
        // The product of the two scales first, so that both halves stay equal bit for bit.
        (*matrix)[i * channels + j] *=
            static_cast<double>(input_scale[i]) * static_cast<double>(input_scale[j]);
      }
    }
  }
  for (size_t token = 0; token < static_cast<size_t>(scaled.sample_tokens); ++token) {
    for (size_t i = 0; i < channels; ++i) {
      uint16_t& value = scaled.sample[token * channels + i];
      value = f32_to_bf16(bf16_to_f32(value) * input_scale[i]);
    }
  }
  return scaled;
}

}  // namespace pare
