#include <cassert>
#include <cstring>

#include "kernels/codec.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/codec_int4.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: both are read again for each instruction set.
#include "hwy/highway.h"
#include "kernels/codec_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace pare {
namespace HWY_NAMESPACE {
namespace {

/// Packs the low nibbles of `size` codes, two a byte; a nibble that is left over is zero.
template <class From, class To>
HWY_INLINE void to_nibbles(const From& from, const To& to, size_t size, uint8_t* HWY_RESTRICT out) {
  const hn::ScalableTag<float> df;
  const size_t lanes = hn::Lanes(df);
  size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::RebindToUnsigned<decltype(df)> du;
  const hn::Rebind<uint8_t, decltype(df)> d8;
  const auto mask = hn::Set(du, 15);
  for (; i + 2 * lanes <= size; i += 2 * lanes) {
    auto even = hn::Zero(df);
    auto odd = hn::Zero(df);
    from.pairs(df, i, even, odd);
    const auto codes = hn::Or(hn::And(to(df, even), mask), hn::ShiftLeft<4>(to(df, odd)));
    hn::StoreU(hn::TruncateTo(d8, codes), d8, out + i / 2);
  }
#endif
  HWY_ALIGN uint32_t codes[HWY_MAX_BYTES / sizeof(float)];
  for (; i < size; i += lanes) {
    const size_t count = size - i < lanes ? size - i : lanes;
    hn::Store(to(df, from.part(df, i, count)), hn::RebindToUnsigned<decltype(df)>(), codes);
    for (size_t k = 0; k < count; ++k) {
      uint8_t& byte = out[(i + k) / 2];
      const uint32_t nibble = codes[k] & 15U;
      byte = static_cast<uint8_t>((i + k) % 2 == 0 ? nibble : byte | (nibble << 4));
    }
  }
}

/// Codes of groups whose reciprocal scales are known.
template <class From, class T>
HWY_INLINE void int4_row(const T* in, size_t size, size_t group_size, const float* inverse_scale,
                         uint8_t* out) {
  for (size_t begin = 0, group = 0; begin < size; begin += group_size, ++group) {
    const size_t count = size - begin < group_size ? size - begin : group_size;
    to_nibbles(From{in + begin}, ToInteger{inverse_scale[group], -8.0F, 7.0F}, count,
               out + begin / 2);
  }
}

/// Absolute maxima to scales and their reciprocals: symmetric_scale, many at a time.
HWY_INLINE void scales_of(float* HWY_RESTRICT scale, size_t groups, float divisor,
                          float* HWY_RESTRICT inverse) {
  const hn::ScalableTag<float> df;
  const size_t lanes = hn::Lanes(df);
  const auto one = hn::Set(df, 1.0F);
  size_t i = 0;
  for (; i + lanes <= groups; i += lanes) {
    const auto quotient = hn::Div(hn::LoadU(df, scale + i), hn::Set(df, divisor));
    const auto too_small = hn::Lt(quotient, hn::Set(df, __FLT_MIN__));
    const auto result = hn::IfThenElse(too_small, one, quotient);
    hn::StoreU(result, df, scale + i);
    hn::StoreU(hn::Div(one, result), df, inverse + i);
  }
  for (; i < groups; ++i) {
    scale[i] = symmetric_scale(scale[i], divisor);
    inverse[i] = 1.0F / scale[i];
  }
}

/// The same with the scales of the groups themselves. A few groups at a time, in three steps: the
/// steps of one group would wait for each other.
template <class From, class T>
HWY_INLINE void scale_int4_row(const T* in, size_t size, size_t group_size, float divisor,
                               float* scale, uint8_t* out) {
  constexpr size_t kGroups = 64;
  float inverse[kGroups];
  const size_t groups = (size + group_size - 1) / group_size;
  for (size_t first = 0; first < groups; first += kGroups) {
    const size_t some = groups - first < kGroups ? groups - first : kGroups;
    const size_t begin = first * group_size;
    const size_t end = size - begin < some * group_size ? size : begin + some * group_size;
    for (size_t i = 0; i < some; ++i) {
      const size_t start = begin + i * group_size;
      const size_t count = end - start < group_size ? end - start : group_size;
      scale[first + i] = absmax_of(From{in + start}, count);
    }
    scales_of(scale + first, some, divisor, inverse);
    int4_row<From>(in + begin, end - begin, group_size, inverse, out + begin / 2);
  }
}

void int4_f32_kernel(const float* in, size_t size, size_t group_size, const float* inverse_scale,
                     uint8_t* out) {
  int4_row<FromF32>(in, size, group_size, inverse_scale, out);
}
void int4_bf16_kernel(const uint16_t* in, size_t size, size_t group_size,
                      const float* inverse_scale, uint8_t* out) {
  int4_row<FromBf16>(in, size, group_size, inverse_scale, out);
}
void scale_int4_f32_kernel(const float* in, size_t size, size_t group_size, float divisor,
                           float* scale, uint8_t* out) {
  scale_int4_row<FromF32>(in, size, group_size, divisor, scale, out);
}
void scale_int4_bf16_kernel(const uint16_t* in, size_t size, size_t group_size, float divisor,
                            float* scale, uint8_t* out) {
  scale_int4_row<FromBf16>(in, size, group_size, divisor, scale, out);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace pare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pare {
namespace {

HWY_EXPORT(int4_f32_kernel);
HWY_EXPORT(int4_bf16_kernel);
HWY_EXPORT(scale_int4_f32_kernel);
HWY_EXPORT(scale_int4_bf16_kernel);

void check_int4_row(size_t size, int64_t group_size, size_t scales, size_t out) {
  assert(group_size >= 1 && (group_size % 2 == 0 || static_cast<size_t>(group_size) >= size));
  assert(scales == (size + static_cast<size_t>(group_size) - 1) / static_cast<size_t>(group_size));
  assert(out == (size + 1) / 2);
  static_cast<void>(size);
  static_cast<void>(group_size);
  static_cast<void>(scales);
  static_cast<void>(out);
}

}  // namespace

void quantize_int4_row(std::span<const float> in, int64_t group_size,
                       std::span<const float> inverse_scale, std::span<uint8_t> out) {
  check_int4_row(in.size(), group_size, inverse_scale.size(), out.size());
  HWY_DYNAMIC_DISPATCH(int4_f32_kernel)
  (in.data(), in.size(), static_cast<size_t>(group_size), inverse_scale.data(), out.data());
}

void quantize_int4_row_bf16(std::span<const uint16_t> in, int64_t group_size,
                            std::span<const float> inverse_scale, std::span<uint8_t> out) {
  check_int4_row(in.size(), group_size, inverse_scale.size(), out.size());
  HWY_DYNAMIC_DISPATCH(int4_bf16_kernel)
  (in.data(), in.size(), static_cast<size_t>(group_size), inverse_scale.data(), out.data());
}

void scale_and_quantize_int4_row(std::span<const float> in, int64_t group_size, float divisor,
                                 std::span<float> scale, std::span<uint8_t> out) {
  check_int4_row(in.size(), group_size, scale.size(), out.size());
  HWY_DYNAMIC_DISPATCH(scale_int4_f32_kernel)
  (in.data(), in.size(), static_cast<size_t>(group_size), divisor, scale.data(), out.data());
}

void scale_and_quantize_int4_row_bf16(std::span<const uint16_t> in, int64_t group_size,
                                      float divisor, std::span<float> scale,
                                      std::span<uint8_t> out) {
  check_int4_row(in.size(), group_size, scale.size(), out.size());
  HWY_DYNAMIC_DISPATCH(scale_int4_bf16_kernel)
  (in.data(), in.size(), static_cast<size_t>(group_size), divisor, scale.data(), out.data());
}

}  // namespace pare
#endif  // HWY_ONCE
