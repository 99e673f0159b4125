#include "kernels/key_value_format.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "kernels/codec.h"

namespace pare {

void round_cache_row(CacheFormat format, const CacheScales& scales, int64_t head,
                     std::span<const float> row, std::span<float> out, CacheRounding& scratch) {
  assert(format != CacheFormat::kNone && out.size() == row.size());
  if (!std::isfinite(absmax(row))) {
    std::copy(row.begin(), row.end(), out.begin());
    return;
  }
  const size_t width = row.size();
  const float scale = scales.of_head(head);
  std::span<const float> offset;
  if (!scales.offset.empty()) {
    offset = std::span(scales.offset).subspan(static_cast<size_t>(head) * width, width);
    scratch.shifted.resize(width);
    for (size_t i = 0; i < width; ++i) scratch.shifted[i] = row[i] - offset[i];
    row = scratch.shifted;
  }
  scratch.codes.resize(width);
  if (format == CacheFormat::kInt8) {
    const std::span<int8_t> codes(reinterpret_cast<int8_t*>(scratch.codes.data()), width);
    quantize_int8(row, 1.0F / scale, codes);
    for (size_t i = 0; i < width; ++i) out[i] = static_cast<float>(codes[i]) * scale;
  } else {
    scratch.values.resize(width);
    quantize_e4m3(row, 1.0F / scale, scratch.codes);
    e4m3_to_bf16(scratch.codes, scratch.values);
    for (size_t i = 0; i < width; ++i) out[i] = bf16_to_f32(scratch.values[i]) * scale;
  }
  for (size_t i = 0; i < offset.size(); ++i) out[i] += offset[i];
}

}  // namespace pare
