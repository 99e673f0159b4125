// Conversions between float and narrow types on vectors, for the kernel files.
//
// Included once for each instruction set by Highway's foreach_target: the guard below is reset for
// each. Only code inside a target's namespace may be here, and nothing of the standard library that
// could be compiled for one instruction set and called on a processor that lacks it.
//
//   const hn::ScalableTag<float> df;
//   const auto bits = round_to_bf16_bits(df, hn::LoadU(df, x));   // one 32-bit lane a value
#if defined(PARE_KERNELS_CODEC_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PARE_KERNELS_CODEC_INL_H_
#undef PARE_KERNELS_CODEC_INL_H_
#else
#define PARE_KERNELS_CODEC_INL_H_
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace pare {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// The bf16 bits of each float in the low half of a 32-bit lane; as pare::f32_to_bf16.
template <class DF, class VF>
HWY_INLINE hn::Vec<hn::RebindToUnsigned<DF>> round_to_bf16_bits(DF df, VF value) {
  const hn::RebindToUnsigned<DF> du;
  const auto bits = hn::BitCast(du, value);
  const auto high = hn::ShiftRight<16>(bits);
  const auto odd = hn::And(high, hn::Set(du, 1));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fff))));
  const auto quiet = hn::Or(high, hn::Set(du, 0x40));
  // Not Ne: Highway leaves open whether a NaN differs from itself.
  const auto is_number = hn::RebindMask(du, hn::Eq(value, value));
  (void)df;
  return hn::IfThenElse(is_number, rounded, quiet);
}

/// Stores Lanes(df) floats as bf16 at `out`, unaligned.
template <class DF, class VF>
HWY_INLINE void store_bf16(DF df, VF value, uint16_t* HWY_RESTRICT out) {
  const hn::Rebind<uint16_t, DF> d16;
  const hn::RebindToSigned<DF> di;
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, round_to_bf16_bits(df, value))), d16, out);
}

/// Loads Lanes(df) bf16 values from `in`, unaligned, as floats.
template <class DF>
HWY_INLINE hn::Vec<DF> load_bf16(DF df, const uint16_t* HWY_RESTRICT in) {
  const hn::Rebind<uint16_t, DF> d16;
  const hn::RebindToUnsigned<DF> du;
  return hn::BitCast(df, hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(d16, in))));
}

/// The E4M3 code of each float in the low byte of a 32-bit lane; as pare::f32_to_e4m3.
///
/// Adding 2^(e + 20) to a magnitude with exponent e makes the processor round it, to nearest even,
/// to a multiple of 2^(e − 3): the sum's last mantissa bit. Below 2^-6 the step stays 2^-9, so e is
/// held at −6 there, and the subnormal codes come out of the same formula. A carry to the next
/// exponent is right by itself, because codes are in the order of their values.
template <class DF, class VF>
HWY_INLINE hn::Vec<hn::RebindToSigned<DF>> round_to_e4m3_bits(DF df, VF value) {
  const hn::RebindToSigned<DF> di;
  const auto bits = hn::BitCast(di, value);
  const auto infinity = hn::Set(di, 0x7f800000);
  const auto unclamped = hn::And(bits, hn::Set(di, 0x7fffffff));
  const auto magnitude = hn::Min(unclamped, hn::Set(di, 0x43e00000));                   // 448
  const auto exponent = hn::Max(hn::And(magnitude, infinity), hn::Set(di, 121 << 23));  // 2^-6
  const auto magic = hn::Add(exponent, hn::Set(di, 20 << 23));
  const auto sum = hn::BitCast(di, hn::Add(hn::BitCast(df, magnitude), hn::BitCast(df, magic)));
  const auto steps = hn::Sub(sum, magic);
  const auto code = hn::Sub(hn::Add(steps, hn::ShiftRight<20>(exponent)), hn::Set(di, 121 * 8));
  const auto with_nan = hn::IfThenElse(hn::Gt(unclamped, infinity), hn::Set(di, 0x7f), code);
  return hn::Or(with_nan, hn::And(hn::ShiftRight<24>(bits), hn::Set(di, 0x80)));
}

}  // namespace HWY_NAMESPACE
}  // namespace pare
HWY_AFTER_NAMESPACE();

#endif  // PARE_KERNELS_CODEC_INL_H_
