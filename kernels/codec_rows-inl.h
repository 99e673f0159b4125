// Rows of values on their way to codes, for the codec kernel files: where they come from, what
// becomes of one vector of them, and their absolute maximum.
//
// Included once for each instruction set by Highway's foreach_target (see codec-inl.h).
//
//   to_bytes(FromBf16{row}, ToInteger{inverse_scale, -127.0F, 127.0F}, size, out);
#if defined(PARE_KERNELS_CODEC_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PARE_KERNELS_CODEC_ROWS_INL_H_
#undef PARE_KERNELS_CODEC_ROWS_INL_H_
#else
#define PARE_KERNELS_CODEC_ROWS_INL_H_
#endif

#include <cstring>

#include "hwy/highway.h"
#include "kernels/codec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace pare {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Where the values come from: whole vectors, `count` < Lanes of them with zeros after, or twice a
// vector's worth as even and odd elements. The latter order costs bf16 no shuffle, and codes of
// neighbours meet in the same lane, where they are joined before their bytes are gathered.

struct FromF32 {
  const float* HWY_RESTRICT in;
  template <class DF>
  HWY_INLINE hn::Vec<DF> whole(DF df, size_t i) const {
    return hn::LoadU(df, in + i);
  }
#if HWY_TARGET != HWY_SCALAR
  template <class DF>
  HWY_INLINE void pairs(DF df, size_t i, hn::Vec<DF>& even, hn::Vec<DF>& odd) const {
    const auto low = hn::LoadU(df, in + i);
    const auto high = hn::LoadU(df, in + i + hn::Lanes(df));
    even = hn::ConcatEven(df, high, low);
    odd = hn::ConcatOdd(df, high, low);
  }
#endif
  template <class DF>
  HWY_INLINE hn::Vec<DF> part(DF df, size_t i, size_t count) const {
    HWY_ALIGN float buffer[HWY_MAX_BYTES / sizeof(float)] = {};
    std::memcpy(buffer, in + i, count * sizeof(float));
    return hn::Load(df, buffer);
  }
};

struct FromBf16 {
  const uint16_t* HWY_RESTRICT in;
  template <class DF>
  HWY_INLINE hn::Vec<DF> whole(DF df, size_t i) const {
    return load_bf16(df, in + i);
  }
#if HWY_TARGET != HWY_SCALAR
  template <class DF>
  HWY_INLINE void pairs(DF df, size_t i, hn::Vec<DF>& even, hn::Vec<DF>& odd) const {
    const hn::RebindToUnsigned<DF> du;
    const hn::Repartition<uint16_t, DF> d16;
    const auto both = hn::BitCast(du, hn::LoadU(d16, in + i));
    even = hn::BitCast(df, hn::ShiftLeft<16>(both));
    odd = hn::BitCast(df, hn::And(both, hn::Set(du, 0xffff0000U)));
  }
#endif
  template <class DF>
  HWY_INLINE hn::Vec<DF> part(DF df, size_t i, size_t count) const {
    HWY_ALIGN uint16_t buffer[HWY_MAX_BYTES / sizeof(float)] = {};
    std::memcpy(buffer, in + i, count * sizeof(uint16_t));
    return load_bf16(df, buffer);
  }
};

// What becomes of a value: a code in the low bits of a 32-bit lane, the bits above it undefined.

struct ToE4m3 {
  float inverse_scale;
  template <class DF, class VF>
  HWY_INLINE hn::Vec<hn::RebindToUnsigned<DF>> operator()(DF df, VF value) const {
    const hn::RebindToUnsigned<DF> du;
    const auto scaled = hn::Mul(value, hn::Set(df, inverse_scale));
    return hn::BitCast(du, round_to_e4m3_bits(df, scaled));
  }
};

struct ToInteger {
  float inverse_scale;
  float lo;
  float hi;
  /// Adding 1.5 × 2^23 leaves the integer nearest to the value, ties to even, in the low mantissa
  /// bits, in two's complement.
  template <class DF, class VF>
  HWY_INLINE hn::Vec<hn::RebindToUnsigned<DF>> operator()(DF df, VF value) const {
    const hn::RebindToUnsigned<DF> du;
    const auto scaled = hn::Mul(value, hn::Set(df, inverse_scale));
    const auto number = hn::IfThenElseZero(hn::Eq(scaled, scaled), scaled);
    const auto clamped = hn::Min(hn::Max(number, hn::Set(df, lo)), hn::Set(df, hi));
    return hn::BitCast(du, hn::Add(clamped, hn::Set(df, 12582912.0F)));
  }
};

/// The largest magnitude of `size` floats as bits. Magnitudes are ordered as integers, with
/// infinity above all numbers and NaN above infinity, so one integer maximum finds all three.
HWY_INLINE uint32_t largest_magnitude(const FromF32& from, size_t size) {
  const hn::ScalableTag<int32_t> di;
  const size_t lanes = hn::Lanes(di);
  const auto mask = hn::Set(di, 0x7fffffff);
  const hn::RebindToFloat<decltype(di)> df;
  auto max0 = hn::Zero(di);
  auto max1 = hn::Zero(di);
  auto max2 = hn::Zero(di);
  auto max3 = hn::Zero(di);
  size_t i = 0;
  for (; i + 4 * lanes <= size; i += 4 * lanes) {
    max0 = hn::Max(max0, hn::And(hn::BitCast(di, from.whole(df, i)), mask));
    max1 = hn::Max(max1, hn::And(hn::BitCast(di, from.whole(df, i + lanes)), mask));
    max2 = hn::Max(max2, hn::And(hn::BitCast(di, from.whole(df, i + 2 * lanes)), mask));
    max3 = hn::Max(max3, hn::And(hn::BitCast(di, from.whole(df, i + 3 * lanes)), mask));
  }
  for (; i + lanes <= size; i += lanes) {
    max0 = hn::Max(max0, hn::And(hn::BitCast(di, from.whole(df, i)), mask));
  }
  if (i < size) {
    max1 = hn::Max(max1, hn::And(hn::BitCast(di, from.part(df, i, size - i)), mask));
  }
  const auto max = hn::Max(hn::Max(max0, max1), hn::Max(max2, max3));
  return static_cast<uint32_t>(hn::GetLane(hn::MaxOfLanes(di, max)));
}

HWY_INLINE uint32_t largest_magnitude(const FromBf16& from, size_t size) {
  const uint16_t* HWY_RESTRICT in = from.in;
  uint32_t largest = 0;
  size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<int16_t> d16;
  const hn::Rebind<uint16_t, decltype(d16)> du16;
  const size_t lanes = hn::Lanes(d16);
  const auto mask = hn::Set(d16, 0x7fff);
  auto max0 = hn::Zero(d16);
  auto max1 = hn::Zero(d16);
  auto max2 = hn::Zero(d16);
  auto max3 = hn::Zero(d16);
  for (; i + 4 * lanes <= size; i += 4 * lanes) {
    max0 = hn::Max(max0, hn::And(hn::BitCast(d16, hn::LoadU(du16, in + i)), mask));
    max1 = hn::Max(max1, hn::And(hn::BitCast(d16, hn::LoadU(du16, in + i + lanes)), mask));
    max2 = hn::Max(max2, hn::And(hn::BitCast(d16, hn::LoadU(du16, in + i + 2 * lanes)), mask));
    max3 = hn::Max(max3, hn::And(hn::BitCast(d16, hn::LoadU(du16, in + i + 3 * lanes)), mask));
  }
  for (; i + lanes <= size; i += lanes) {
    max0 = hn::Max(max0, hn::And(hn::BitCast(d16, hn::LoadU(du16, in + i)), mask));
  }
  const auto max16 = hn::Max(hn::Max(max0, max1), hn::Max(max2, max3));
  // Odd and even lanes side by side as 32-bit lanes: those have a maximum over lanes.
  const hn::Repartition<int32_t, decltype(d16)> d32;
  const auto pairs = hn::BitCast(d32, max16);
  const auto max32 = hn::Max(hn::ShiftRight<16>(pairs), hn::And(pairs, hn::Set(d32, 0xffff)));
  largest = static_cast<uint32_t>(hn::GetLane(hn::MaxOfLanes(d32, max32)));
#endif
  for (; i < size; ++i) {
    const uint32_t magnitude = in[i] & 0x7fffU;
    if (magnitude > largest) largest = magnitude;
  }
  return largest << 16;
}

template <class From>
HWY_INLINE float absmax_of(const From& from, size_t size) {
  const uint32_t bits = largest_magnitude(from, size);
  if (bits > 0x7f800000U) return __builtin_nanf("");
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

}  // namespace HWY_NAMESPACE
}  // namespace pare
HWY_AFTER_NAMESPACE();

#endif  // PARE_KERNELS_CODEC_ROWS_INL_H_
