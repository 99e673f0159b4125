// The exponential, and loops over rows, for the vector_math kernel files.
//
// Included once for each instruction set by Highway's foreach_target (see codec-inl.h). Rows are
// read in whole vectors; what is left at the end goes through a buffer padded with a neutral value,
// so that an element's result does not depend on its position.
#if defined(PARE_KERNELS_VECTOR_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PARE_KERNELS_VECTOR_MATH_INL_H_
#undef PARE_KERNELS_VECTOR_MATH_INL_H_
#else
#define PARE_KERNELS_VECTOR_MATH_INL_H_
#endif

#include <cstring>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace pare {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// exp(r) − 1 for |r| ≤ ln 2 / 2, by the polynomial that minimises the relative error of exp(r).
template <class DF, class VF = hn::Vec<DF>>
HWY_INLINE VF expm1_near_zero(DF df, VF r) {
  auto p = hn::Set(df, 0x1.6a2434p-10F);
  p = hn::MulAdd(p, r, hn::Set(df, 0x1.1239e2p-7F));
  p = hn::MulAdd(p, r, hn::Set(df, 0x1.5558f2p-5F));
  p = hn::MulAdd(p, r, hn::Set(df, 0x1.555492p-3F));
  p = hn::MulAdd(p, r, hn::Set(df, 0x1.fffffcp-2F));
  return hn::MulAdd(hn::Mul(p, r), r, r);
}

/// x − n ln 2, ln 2 being split so that n × its upper part is exact.
template <class DF, class VF = hn::Vec<DF>>
HWY_INLINE VF reduce_by_ln2(DF df, VF x, VF n) {
  return hn::NegMulAdd(n, hn::Set(df, -2.12194440e-4F),
                       hn::NegMulAdd(n, hn::Set(df, 0.693359375F), x));
}

/// 2ⁿ for whole −126 ≤ n ≤ 127; infinity for 128.
template <class DF, class VF = hn::Vec<DF>>
HWY_INLINE VF power_of_two(DF df, VF n) {
  const hn::RebindToSigned<DF> di;
  return hn::BitCast(df, hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127))));
}

/// exp(x) to about 1 ulp where the result is a normal float: 0 below −87.33, infinity above 88.37,
/// NaN for NaN.
///
/// x = n ln 2 + r with |r| ≤ ln 2 / 2, where the polynomial's relative error is 3e-9.
template <class DF, class VF = hn::Vec<DF>>
HWY_INLINE VF exp_ps(DF df, VF x) {
  const auto scaled = hn::Min(hn::Mul(x, hn::Set(df, 1.44269504F)), hn::Set(df, 128.0F));
  const auto n = hn::Round(hn::Max(scaled, hn::Set(df, -126.0F)));
  const auto p = hn::Add(expm1_near_zero(df, reduce_by_ln2(df, x, n)), hn::Set(df, 1.0F));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(df, -87.33F)), hn::Mul(p, power_of_two(df, n)));
}

/// exp(x) − 1 for 0 ≤ x ≤ 80, to a few ulp also near zero: 2ⁿ (exp(r) − 1) + (2ⁿ − 1).
template <class DF, class VF = hn::Vec<DF>>
HWY_INLINE VF expm1_positive(DF df, VF x) {
  const auto n = hn::Round(hn::Mul(x, hn::Set(df, 1.44269504F)));
  const auto power = power_of_two(df, n);
  const auto p = expm1_near_zero(df, reduce_by_ln2(df, x, n));
  return hn::MulAdd(power, p, hn::Sub(power, hn::Set(df, 1.0F)));
}

/// tanh(x) to a few ulp: with e = exp(2 |x|) − 1, e / (e + 2). It is ±1 beyond 10; NaN for NaN.
template <class DF, class VF = hn::Vec<DF>>
HWY_INLINE VF tanh_ps(DF df, VF x) {
  const auto magnitude = hn::Min(hn::Abs(x), hn::Set(df, 10.0F));
  const auto e = expm1_positive(df, hn::Add(magnitude, magnitude));
  const auto result = hn::CopySign(hn::Div(e, hn::Add(e, hn::Set(df, 2.0F))), x);
  return hn::IfThenElse(hn::Eq(x, x), result, x);
}

/// log(1 + x) for 0 ≤ x ≤ 1, to a few ulp: 2 artanh(u), u = x / (2 + x) ≤ 1/3, whose power series
/// up to u¹⁷ has a relative error below 2e-10.
template <class DF, class VF = hn::Vec<DF>>
HWY_INLINE VF log1p_unit(DF df, VF x) {
  const auto u = hn::Div(x, hn::Add(x, hn::Set(df, 2.0F)));
  const auto square = hn::Mul(u, u);
  auto p = hn::Set(df, 1.0F / 17);
  p = hn::MulAdd(p, square, hn::Set(df, 1.0F / 15));
  p = hn::MulAdd(p, square, hn::Set(df, 1.0F / 13));
  p = hn::MulAdd(p, square, hn::Set(df, 1.0F / 11));
  p = hn::MulAdd(p, square, hn::Set(df, 1.0F / 9));
  p = hn::MulAdd(p, square, hn::Set(df, 1.0F / 7));
  p = hn::MulAdd(p, square, hn::Set(df, 1.0F / 5));
  p = hn::MulAdd(p, square, hn::Set(df, 1.0F / 3));
  const auto twice = hn::Add(u, u);
  return hn::MulAdd(hn::Mul(p, square), twice, twice);
}

/// Reads `count` < Lanes(df) floats, the other lanes are `fill`.
template <class DF>
HWY_INLINE hn::Vec<DF> load_part(DF df, const float* HWY_RESTRICT in, size_t count, float fill) {
  HWY_ALIGN float buffer[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(hn::Set(df, fill), df, buffer);
  std::memcpy(buffer, in, count * sizeof(float));
  return hn::Load(df, buffer);
}

template <class DF, class VF>
HWY_INLINE void store_part(DF df, VF value, float* HWY_RESTRICT out, size_t count) {
  HWY_ALIGN float buffer[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(value, df, buffer);
  std::memcpy(out, buffer, count * sizeof(float));
}

/// out[i] = f(a[i]); `out` may be `a`.
template <class F>
HWY_INLINE void map1(const float* a, float* out, size_t size, const F& f) {
  const hn::ScalableTag<float> df;
  const size_t lanes = hn::Lanes(df);
  size_t i = 0;
  for (; i + lanes <= size; i += lanes) hn::StoreU(f(df, hn::LoadU(df, a + i)), df, out + i);
  if (i < size) store_part(df, f(df, load_part(df, a + i, size - i, 0.0F)), out + i, size - i);
}

/// out[i] = f(a[i], b[i]); `out` may be `a` or `b`.
template <class F>
HWY_INLINE void map2(const float* a, const float* b, float* out, size_t size, const F& f) {
  const hn::ScalableTag<float> df;
  const size_t lanes = hn::Lanes(df);
  size_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    hn::StoreU(f(df, hn::LoadU(df, a + i), hn::LoadU(df, b + i)), df, out + i);
  }
  if (i < size) {
    const size_t rest = size - i;
    const auto result = f(df, load_part(df, a + i, rest, 0.0F), load_part(df, b + i, rest, 0.0F));
    store_part(df, result, out + i, rest);
  }
}

/// Elements whose sum is kept in float lanes before it is added to a double.
constexpr size_t kSumChunk = 1024;

/// Sum over i of f(i), where f(df, i) gives the vector of terms i … i + Lanes − 1, and
/// f.part(df, i, count) the same for the last `count` < Lanes terms with zeros after them.
template <class F>
HWY_INLINE double sum_chunks(size_t size, F& f) {
  const hn::ScalableTag<float> df;
  const size_t lanes = hn::Lanes(df);
  double total = 0;
  for (size_t begin = 0; begin < size; begin += kSumChunk) {
    const size_t end = size - begin < kSumChunk ? size : begin + kSumChunk;
    auto sum0 = hn::Zero(df);
    auto sum1 = hn::Zero(df);
    auto sum2 = hn::Zero(df);
    auto sum3 = hn::Zero(df);
    size_t i = begin;
    for (; i + 4 * lanes <= end; i += 4 * lanes) {
      sum0 = hn::Add(sum0, f(df, i));
      sum1 = hn::Add(sum1, f(df, i + lanes));
      sum2 = hn::Add(sum2, f(df, i + 2 * lanes));
      sum3 = hn::Add(sum3, f(df, i + 3 * lanes));
    }
    for (; i + lanes <= end; i += lanes) sum0 = hn::Add(sum0, f(df, i));
    if (i < end) sum1 = hn::Add(sum1, f.part(df, i, end - i));
    const auto sum = hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3));
    total += static_cast<double>(hn::GetLane(hn::SumOfLanes(df, sum)));
  }
  return total;
}

}  // namespace HWY_NAMESPACE
}  // namespace pare
HWY_AFTER_NAMESPACE();

#endif  // PARE_KERNELS_VECTOR_MATH_INL_H_
