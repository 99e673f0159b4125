// How keys and values are rounded on their way into the cache.
//
// A cache of eight-bit codes has static scales, one for all heads or one for each, and maybe an
// offset for each channel, which is taken off first: a key bias that all tokens share would use up
// the range (the affine caches of NVIDIA ModelOpt). An engine stores code(x) and reads
// code × scale + offset; here the cache is given what would be read.
//
// Immutable once made, and then safe to share between threads.
//
//   round_cache_row(CacheFormat::kInt8, format.keys, head, key, rounded, scratch);
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/dtype.h"

namespace pare {

enum class CacheFormat : uint8_t { kNone, kFp8E4m3, kInt8 };

/// What the largest magnitude is divided by to give the scale: 448 or 127.
inline float cache_divisor(CacheFormat format) noexcept {
  return format == CacheFormat::kInt8 ? 127.0F : kE4m3Max;
}

/// Of keys, or of values.
struct CacheScales {
  std::vector<float> scale;   ///< One for all heads, or [kv_heads]. Positive, normal, finite.
  std::vector<float> offset;  ///< [kv_heads × width of a head]; empty: none

  float of_head(int64_t head) const {
    return scale[scale.size() == 1 ? 0 : static_cast<size_t>(head)];
  }
};

struct KeyValueFormat {
  CacheFormat format = CacheFormat::kNone;
  CacheScales keys;
  CacheScales values;
};

/// Working memory of one thread.
struct CacheRounding {
  std::vector<float> shifted;
  std::vector<uint8_t> codes;
  std::vector<uint16_t> values;
};

/// out = dequantized(quantized(row)) for the row [width] of one head. FP8: saturating round to
/// nearest even of (x − offset) × (1 / scale); INT8: half to even, −127 … 127; back in FP32. A row
/// with NaN or infinity stays as it is, so that neither is hidden. `out` may be `row`.
/// REQUIRES: format is not kNone.
void round_cache_row(CacheFormat format, const CacheScales& scales, int64_t head,
                     std::span<const float> row, std::span<float> out, CacheRounding& scratch);

}  // namespace pare
