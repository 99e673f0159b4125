#include <cassert>
#include <cmath>

#include "kernels/vector_math.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/vector_math_softmax.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: all three are read again for each instruction set.
#include "hwy/highway.h"
#include "kernels/codec-inl.h"
#include "kernels/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace pare {
namespace HWY_NAMESPACE {
namespace {

/// Two running maxima, and a mask of lanes without NaN, because the processor's maximum may drop a
/// NaN.
float max_row_kernel(const float* HWY_RESTRICT x, size_t size) {
  const hn::ScalableTag<float> df;
  const size_t lanes = hn::Lanes(df);
  const float lowest = -__builtin_huge_valf();
  auto max0 = hn::Set(df, lowest);
  auto max1 = max0;
  auto is_number = hn::Eq(max0, max0);
  size_t i = 0;
  for (; i + 2 * lanes <= size; i += 2 * lanes) {
    const auto v0 = hn::LoadU(df, x + i);
    const auto v1 = hn::LoadU(df, x + i + lanes);
    max0 = hn::Max(max0, v0);
    max1 = hn::Max(max1, v1);
    is_number = hn::And(is_number, hn::And(hn::Eq(v0, v0), hn::Eq(v1, v1)));
  }
  for (; i < size; i += lanes) {
    const auto v =
        i + lanes <= size ? hn::LoadU(df, x + i) : load_part(df, x + i, size - i, lowest);
    max0 = hn::Max(max0, v);
    is_number = hn::And(is_number, hn::Eq(v, v));
  }
  if (!hn::AllTrue(df, is_number)) return __builtin_nanf("");
  const auto max = hn::Max(max0, max1);
  // Highway's emulated MaxOfLanes never goes below the lowest finite float.
  if (hn::AllTrue(df, hn::Eq(max, hn::Set(df, lowest)))) return lowest;
  return hn::GetLane(hn::MaxOfLanes(df, max));
}

/// Index of the first element equal to `value`; `size` if there is none.
size_t find_kernel(const float* HWY_RESTRICT x, size_t size, float value) {
  const hn::ScalableTag<float> df;
  const size_t lanes = hn::Lanes(df);
  const auto wanted = hn::Set(df, value);
  size_t i = 0;
  while (i + lanes <= size && hn::AllFalse(df, hn::Eq(hn::LoadU(df, x + i), wanted))) i += lanes;
  while (i < size && !(x[i] == value)) ++i;
  return i;
}

/// exp(score × scale − max), stored as it goes.
template <class Store>
struct ExpTerm {
  const float* HWY_RESTRICT scores;
  float scale;
  float row_max;
  Store store;

  template <class D, class V>
  HWY_INLINE V term(D d, V score) const {
    // Not fused: equal to row_max must give exactly 1.
    return exp_ps(d, hn::Sub(hn::Mul(score, hn::Set(d, scale)), hn::Set(d, row_max)));
  }
  template <class D>
  HWY_INLINE hn::Vec<D> operator()(D d, size_t i) const {
    const auto value = term(d, hn::LoadU(d, scores + i));
    store.whole(d, value, i);
    return value;
  }
  template <class D>
  HWY_INLINE hn::Vec<D> part(D d, size_t i, size_t count) const {
    const auto value = term(d, load_part(d, scores + i, count, 0.0F));
    HWY_ALIGN float buffer[HWY_MAX_BYTES / sizeof(float)];
    hn::Store(value, d, buffer);
    store.part(d, buffer, i, count);
    return load_part(d, buffer, count, 0.0F);
  }
};

struct StoreFloats {
  float* out;
  template <class D, class V>
  HWY_INLINE void whole(D d, V value, size_t i) const {
    hn::StoreU(value, d, out + i);
  }
  template <class D>
  HWY_INLINE void part(D /*d*/, const float* values, size_t i, size_t count) const {
    std::memcpy(out + i, values, count * sizeof(float));
  }
};

struct StoreBf16 {
  uint16_t* out;
  template <class D, class V>
  HWY_INLINE void whole(D d, V value, size_t i) const {
    store_bf16(d, value, out + i);
  }
  template <class D>
  HWY_INLINE void part(D d, const float* values, size_t i, size_t count) const {
    HWY_ALIGN uint16_t buffer[HWY_MAX_BYTES / sizeof(float)];
    store_bf16(d, hn::Load(d, values), buffer);
    std::memcpy(out + i, buffer, count * sizeof(uint16_t));
  }
};

float exp_sum_f32_kernel(const float* scores, float scale, float row_max, float* out, size_t size) {
  ExpTerm<StoreFloats> term{scores, scale, row_max, {out}};
  return static_cast<float>(sum_chunks(size, term));
}

float exp_sum_bf16_kernel(const float* HWY_RESTRICT scores, float scale, float row_max,
                          uint16_t* HWY_RESTRICT out, size_t size) {
  ExpTerm<StoreBf16> term{scores, scale, row_max, {out}};
  return static_cast<float>(sum_chunks(size, term));
}

struct DiscardTerms {
  template <class D, class V>
  HWY_INLINE void whole(D /*d*/, V /*value*/, size_t /*i*/) const {}
  template <class D>
  HWY_INLINE void part(D /*d*/, const float* /*values*/, size_t /*i*/, size_t /*count*/) const {}
};

double exp_sum_kernel(const float* scores, float row_max, size_t size) {
  ExpTerm<DiscardTerms> term{scores, 1.0F, row_max, {}};
  return sum_chunks(size, term);
}

/// One term of the divergence in the form p φ(d), d = log p − log q, φ(d) = d − 1 + exp(−d) ≥ 0.
///
/// Σ p φ(d) = Σ (p d − p + q) equals Σ p d because p and q both sum to one, but every term is
/// positive and of second order in d. An error of log_sum_exp, which moves all d together, and the
/// rounding of near-equal p and q then cancel instead of drowning a small divergence.
struct DivergenceTerm {
  const float* HWY_RESTRICT base;
  const float* HWY_RESTRICT other;
  float base_lse_high;
  float base_lse_low;
  float lse_high;
  float lse_low;
  float lse_distance;

  template <class D, class V>
  HWY_INLINE V term(D d, V b, V o) const {
    const auto log_p = hn::Sub(hn::Sub(b, hn::Set(d, base_lse_high)), hn::Set(d, base_lse_low));
    const auto log_q = hn::Sub(hn::Sub(o, hn::Set(d, lse_high)), hn::Set(d, lse_low));
    const auto p = exp_ps(d, log_p);
    const auto q = exp_ps(d, log_q);
    const auto x = hn::Sub(hn::Sub(b, o), hn::Set(d, lse_distance));
    // φ(x) = x²/2! − x³/3! + x⁴/4! − …, up to x¹⁰: relative error 1e-9 at |x| = 0.5.
    auto series = hn::Set(d, 1.0F / 3628800);
    series = hn::NegMulAdd(series, x, hn::Set(d, 1.0F / 362880));
    series = hn::NegMulAdd(series, x, hn::Set(d, 1.0F / 40320));
    series = hn::NegMulAdd(series, x, hn::Set(d, 1.0F / 5040));
    series = hn::NegMulAdd(series, x, hn::Set(d, 1.0F / 720));
    series = hn::NegMulAdd(series, x, hn::Set(d, 1.0F / 120));
    series = hn::NegMulAdd(series, x, hn::Set(d, 1.0F / 24));
    series = hn::NegMulAdd(series, x, hn::Set(d, 1.0F / 6));
    series = hn::NegMulAdd(series, x, hn::Set(d, 0.5F));
    const auto near = hn::Mul(p, hn::Mul(hn::Mul(x, x), series));
    const auto far = hn::Add(hn::Sub(hn::Mul(p, x), p), q);
    const auto result = hn::IfThenElse(hn::Lt(hn::Abs(x), hn::Set(d, 0.5F)), near, far);
    // p = 0: p x may be 0 × ∞.
    return hn::IfThenElse(hn::Eq(p, hn::Zero(d)), q, result);
  }
  template <class D>
  HWY_INLINE hn::Vec<D> operator()(D d, size_t i) const {
    return term(d, hn::LoadU(d, base + i), hn::LoadU(d, other + i));
  }
  template <class D>
  HWY_INLINE hn::Vec<D> part(D d, size_t i, size_t count) const {
    const float nothing = -__builtin_huge_valf();
    return term(d, load_part(d, base + i, count, nothing), load_part(d, other + i, count, nothing));
  }
};

double kl_divergence_kernel(const float* base, double base_lse, const float* other, double lse,
                            size_t size) {
  const auto base_high = static_cast<float>(base_lse);
  const auto high = static_cast<float>(lse);
  DivergenceTerm term{base,
                      other,
                      base_high,
                      static_cast<float>(base_lse - static_cast<double>(base_high)),
                      high,
                      static_cast<float>(lse - static_cast<double>(high)),
                      static_cast<float>(base_lse - lse)};
  return sum_chunks(size, term);
}

/// exp(logit − log_sum_exp), the latter in two floats.
struct LogitProbability {
  const float* HWY_RESTRICT logits;
  float lse_high;
  float lse_low;

  template <class D, class V>
  HWY_INLINE V operator()(D d, V logit) const {
    return exp_ps(d, hn::Sub(hn::Sub(logit, hn::Set(d, lse_high)), hn::Set(d, lse_low)));
  }
};

LogitProbability probability_of(const float* logits, double lse) {
  const auto high = static_cast<float>(lse);
  return {logits, high, static_cast<float>(lse - static_cast<double>(high))};
}

/// max(p − q, 0)
struct ExcessTerm {
  LogitProbability p;
  LogitProbability q;

  template <class D, class V>
  HWY_INLINE V term(D d, V p_logit, V q_logit) const {
    return hn::Max(hn::Sub(p(d, p_logit), q(d, q_logit)), hn::Zero(d));
  }
  template <class D>
  HWY_INLINE hn::Vec<D> operator()(D d, size_t i) const {
    return term(d, hn::LoadU(d, p.logits + i), hn::LoadU(d, q.logits + i));
  }
  template <class D>
  HWY_INLINE hn::Vec<D> part(D d, size_t i, size_t count) const {
    const float nothing = -__builtin_huge_valf();
    return term(d, load_part(d, p.logits + i, count, nothing),
                load_part(d, q.logits + i, count, nothing));
  }
};

double excess_probability_kernel(const float* logits, double lse, const float* other,
                                 double other_lse, size_t size) {
  ExcessTerm term{probability_of(logits, lse), probability_of(other, other_lse)};
  return sum_chunks(size, term);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace pare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pare {

HWY_EXPORT(max_row_kernel);
HWY_EXPORT(find_kernel);
HWY_EXPORT(exp_sum_f32_kernel);
HWY_EXPORT(exp_sum_bf16_kernel);
HWY_EXPORT(exp_sum_kernel);
HWY_EXPORT(kl_divergence_kernel);
HWY_EXPORT(excess_probability_kernel);

float max_row(std::span<const float> x) {
  return HWY_DYNAMIC_DISPATCH(max_row_kernel)(x.data(), x.size());
}

float exp_sum_row(std::span<const float> scores, float scale, float row_max,
                  std::span<uint16_t> probabilities_bf16) {
  assert(probabilities_bf16.size() == scores.size());
  return HWY_DYNAMIC_DISPATCH(exp_sum_bf16_kernel)(scores.data(), scale, row_max,
                                                   probabilities_bf16.data(), scores.size());
}

float exp_sum_row(std::span<const float> scores, float scale, float row_max,
                  std::span<float> probabilities) {
  assert(probabilities.size() == scores.size());
  return HWY_DYNAMIC_DISPATCH(exp_sum_f32_kernel)(scores.data(), scale, row_max,
                                                  probabilities.data(), scores.size());
}

LogSoftmaxSums log_sum_exp(std::span<const float> logits) {
  assert(!logits.empty());
  LogSoftmaxSums sums;
  sums.max = max_row(logits);
  sums.log_sum_exp = static_cast<double>(sums.max);
  if (std::isnan(sums.max)) return sums;
  sums.argmax = static_cast<int64_t>(
      HWY_DYNAMIC_DISPATCH(find_kernel)(logits.data(), logits.size(), sums.max));
  if (std::isinf(sums.max)) return sums;
  sums.log_sum_exp +=
      std::log(HWY_DYNAMIC_DISPATCH(exp_sum_kernel)(logits.data(), sums.max, logits.size()));
  return sums;
}

double kl_divergence(std::span<const float> base_logits, double base_log_sum_exp,
                     std::span<const float> logits, double log_sum_exp) {
  assert(base_logits.size() == logits.size());
  return HWY_DYNAMIC_DISPATCH(kl_divergence_kernel)(base_logits.data(), base_log_sum_exp,
                                                    logits.data(), log_sum_exp, logits.size());
}

double excess_probability(std::span<const float> logits, double log_sum_exp,
                          std::span<const float> other_logits, double other_log_sum_exp) {
  assert(other_logits.size() == logits.size());
  return HWY_DYNAMIC_DISPATCH(excess_probability_kernel)(
      logits.data(), log_sum_exp, other_logits.data(), other_log_sum_exp, logits.size());
}

}  // namespace pare
#endif  // HWY_ONCE
