#include <cassert>

#include "kernels/vector_math.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/vector_math_activation.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: both are read again for each instruction set.
#include "hwy/highway.h"
#include "kernels/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace pare {
namespace HWY_NAMESPACE {
namespace {

struct Silu {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    const auto one = hn::Set(d, 1.0F);
    return hn::Div(x, hn::Add(one, exp_ps(d, hn::Neg(x))));
  }
};

/// 0.5 (1 + tanh(u)) = 1 / (1 + exp(−2u)), without the cancellation of the left side.
struct GeluTanh {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    // −2 sqrt(2/π) and −2 sqrt(2/π) × 0.044715.
    const auto slope =
        hn::MulAdd(hn::Mul(x, x), hn::Set(d, -0.0713548162726F), hn::Set(d, -1.59576912160573F));
    return hn::Div(x, hn::Add(hn::Set(d, 1.0F), exp_ps(d, hn::Mul(x, slope))));
  }
};

/// With y = |x| / √2, erfc(y) = exp(−y²) t P(t), t = 1 / (1 + 0.35 y); the coefficients of P
/// minimise the relative error (7e-9) on 0 ≤ y ≤ 9.6, where erfc(y) fades to zero. The exponent
/// x²/2 is split as h²/2 + (x − h)(x + h)/2, h being x without its lower mantissa bits, so that its
/// rounding does not grow with x².
struct GeluErf {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    const hn::RebindToUnsigned<D> du;
    const auto half = hn::Set(d, 0.5F);
    const auto one = hn::Set(d, 1.0F);
    const auto magnitude = hn::Min(hn::Abs(x), hn::Set(d, 13.5F));
    const auto t = hn::Div(one, hn::MulAdd(magnitude, hn::Set(d, 0.247487373F), one));
    auto p = hn::Set(d, 0.03777627646923065F);
    p = hn::MulAdd(p, t, hn::Set(d, -0.15541893F));
    p = hn::MulAdd(p, t, hn::Set(d, 0.17289674F));
    p = hn::MulAdd(p, t, hn::Set(d, -0.01580585F));
    p = hn::MulAdd(p, t, hn::Set(d, 0.07666253F));
    p = hn::MulAdd(p, t, hn::Set(d, 0.1518866F));
    p = hn::MulAdd(p, t, hn::Set(d, 0.149051F));
    p = hn::MulAdd(p, t, hn::Set(d, 0.18838863F));
    p = hn::MulAdd(p, t, hn::Set(d, 0.19707581F));
    p = hn::MulAdd(p, t, hn::Set(d, 0.19748724F));
    const auto high = hn::BitCast(d, hn::And(hn::BitCast(du, magnitude), hn::Set(du, 0xfffff000U)));
    const auto low = hn::Mul(half, hn::Mul(hn::Sub(magnitude, high), hn::Add(magnitude, high)));
    const auto gauss = hn::Mul(exp_ps(d, hn::Neg(hn::Mul(half, hn::Mul(high, high)))),
                               // exp(−low), low < 0.05
                               hn::MulAdd(hn::MulAdd(hn::NegMulAdd(low, hn::Set(d, 1.0F / 6), half),
                                                     low, hn::Set(d, -1.0F)),
                                          low, one));
    const auto tail = hn::Mul(half, hn::Mul(gauss, hn::Mul(t, p)));
    const auto share = hn::IfThenElse(hn::Gt(x, hn::Zero(d)), hn::Sub(one, tail), tail);
    return hn::Mul(x, share);
  }
};

/// x / (1 + exp(−alpha x)). The exponent is made in two parts, a product of 12-bit numbers, which
/// is exact, and a small rest, so that its rounding does not grow with x.
struct ScaledSilu {
  float alpha_high;
  float alpha_low;
  float largest;  // beyond ± this the sigmoid is 0 or 1, and the rest would not be small

  explicit ScaledSilu(float alpha) : largest(128.0F / alpha) {
    uint32_t bits;
    std::memcpy(&bits, &alpha, sizeof bits);
    bits &= 0xfffff000U;
    std::memcpy(&alpha_high, &bits, sizeof bits);
    alpha_low = alpha - alpha_high;
  }
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    const hn::RebindToUnsigned<D> du;
    const auto bound = hn::Set(d, largest);
    const auto kept = hn::Max(hn::Neg(bound), hn::Min(x, bound));
    const auto high = hn::BitCast(d, hn::And(hn::BitCast(du, kept), hn::Set(du, 0xfffff000U)));
    const auto rest = hn::MulAdd(hn::Set(d, alpha_low), kept,
                                 hn::Mul(hn::Set(d, alpha_high), hn::Sub(kept, high)));
    const auto one = hn::Set(d, 1.0F);
    // exp(−rest), |rest| < 0.1
    auto small = hn::NegMulAdd(rest, hn::Set(d, 1.0F / 6), hn::Set(d, 0.5F));
    small = hn::MulAdd(hn::MulAdd(small, rest, hn::Set(d, -1.0F)), rest, one);
    const auto large = exp_ps(d, hn::Neg(hn::Mul(hn::Set(d, alpha_high), high)));
    return hn::Div(x, hn::MulAdd(large, small, one));
  }
};

/// min(max(x, low), high); NaN stays, which the processor's minimum may drop.
template <class D, class V>
HWY_INLINE V clamp(D d, V x, float low, float high) {
  const auto above = hn::IfThenElse(hn::Lt(x, hn::Set(d, low)), hn::Set(d, low), x);
  return hn::IfThenElse(hn::Gt(above, hn::Set(d, high)), hn::Set(d, high), above);
}

struct ClampedSwiglu {
  ScaledSilu silu;
  float limit;
  template <class D, class V>
  HWY_INLINE V operator()(D d, V gate, V up) const {
    const auto kept = clamp(d, gate, -__builtin_huge_valf(), limit);
    return hn::Mul(hn::Add(clamp(d, up, -limit, limit), hn::Set(d, 1.0F)), silu(d, kept));
  }
};

struct Clamp {
  float low;
  float high;
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    return clamp(d, x, low, high);
  }
};

struct Sigmoid {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    const auto one = hn::Set(d, 1.0F);
    return hn::Div(one, hn::Add(one, exp_ps(d, hn::Neg(x))));
  }
};

/// max(x, 0) + log(1 + exp(−|x|))
struct Softplus {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    const auto small = log1p_unit(d, exp_ps(d, hn::Neg(hn::Abs(x))));
    return hn::Add(hn::IfThenZeroElse(hn::Lt(x, hn::Zero(d)), x), small);
  }
};

struct SoftCap {
  float cap;
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    return hn::Mul(hn::Set(d, cap), tanh_ps(d, hn::Div(x, hn::Set(d, cap))));
  }
};

struct Relu {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(d)), x);
  }
};

struct ReluSquared {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    const auto positive = Relu()(d, x);
    return hn::Mul(positive, positive);
  }
};

/// f(gate) × up
template <class F>
struct Gated {
  F f{};
  template <class D, class V>
  HWY_INLINE V operator()(D d, V gate, V up) const {
    return hn::Mul(f(d, gate), up);
  }
};

constexpr float kQuickGeluAlpha = 1.702F;

void silu_kernel(float* x, size_t size) { map1(x, x, size, Silu()); }
void gelu_tanh_kernel(float* x, size_t size) { map1(x, x, size, GeluTanh()); }
void gelu_erf_kernel(float* x, size_t size) { map1(x, x, size, GeluErf()); }
void relu_kernel(float* x, size_t size) { map1(x, x, size, Relu()); }
void relu_squared_kernel(float* x, size_t size) { map1(x, x, size, ReluSquared()); }

void quick_gelu_kernel(float* x, size_t size) { map1(x, x, size, ScaledSilu(kQuickGeluAlpha)); }
void sigmoid_kernel(float* x, size_t size) { map1(x, x, size, Sigmoid()); }
void softplus_kernel(float* x, size_t size) { map1(x, x, size, Softplus()); }
void soft_cap_kernel(float* x, float cap, size_t size) { map1(x, x, size, SoftCap{cap}); }
void clamp_kernel(float* x, float low, float high, size_t size) {
  map1(x, x, size, Clamp{low, high});
}

void silu_multiply_kernel(const float* gate, const float* up, float* out, size_t size) {
  map2(gate, up, out, size, Gated<Silu>());
}
void gelu_tanh_multiply_kernel(const float* gate, const float* up, float* out, size_t size) {
  map2(gate, up, out, size, Gated<GeluTanh>());
}
void gelu_erf_multiply_kernel(const float* gate, const float* up, float* out, size_t size) {
  map2(gate, up, out, size, Gated<GeluErf>());
}

void quick_gelu_multiply_kernel(const float* gate, const float* up, float* out, size_t size) {
  map2(gate, up, out, size, Gated<ScaledSilu>{ScaledSilu(kQuickGeluAlpha)});
}
void relu_multiply_kernel(const float* gate, const float* up, float* out, size_t size) {
  map2(gate, up, out, size, Gated<Relu>());
}
void relu_squared_multiply_kernel(const float* gate, const float* up, float* out, size_t size) {
  map2(gate, up, out, size, Gated<ReluSquared>());
}
void clamped_swiglu_kernel(const float* gate, const float* up, float alpha, float limit, float* out,
                           size_t size) {
  map2(gate, up, out, size, ClampedSwiglu{ScaledSilu(alpha), limit});
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace pare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pare {

HWY_EXPORT(silu_kernel);
HWY_EXPORT(gelu_tanh_kernel);
HWY_EXPORT(gelu_erf_kernel);
HWY_EXPORT(relu_kernel);
HWY_EXPORT(relu_squared_kernel);
HWY_EXPORT(silu_multiply_kernel);
HWY_EXPORT(gelu_tanh_multiply_kernel);
HWY_EXPORT(gelu_erf_multiply_kernel);
HWY_EXPORT(quick_gelu_kernel);
HWY_EXPORT(sigmoid_kernel);
HWY_EXPORT(softplus_kernel);
HWY_EXPORT(soft_cap_kernel);
HWY_EXPORT(clamp_kernel);
HWY_EXPORT(quick_gelu_multiply_kernel);
HWY_EXPORT(relu_multiply_kernel);
HWY_EXPORT(relu_squared_multiply_kernel);
HWY_EXPORT(clamped_swiglu_kernel);

void silu(std::span<float> x) { HWY_DYNAMIC_DISPATCH(silu_kernel)(x.data(), x.size()); }

void gelu_tanh(std::span<float> x) { HWY_DYNAMIC_DISPATCH(gelu_tanh_kernel)(x.data(), x.size()); }

void gelu_erf(std::span<float> x) { HWY_DYNAMIC_DISPATCH(gelu_erf_kernel)(x.data(), x.size()); }

void relu(std::span<float> x) { HWY_DYNAMIC_DISPATCH(relu_kernel)(x.data(), x.size()); }

void relu_squared(std::span<float> x) {
  HWY_DYNAMIC_DISPATCH(relu_squared_kernel)(x.data(), x.size());
}

void silu_multiply(std::span<const float> gate, std::span<const float> up, std::span<float> out) {
  assert(gate.size() == up.size() && out.size() == up.size());
  HWY_DYNAMIC_DISPATCH(silu_multiply_kernel)(gate.data(), up.data(), out.data(), out.size());
}

void gelu_tanh_multiply(std::span<const float> gate, std::span<const float> up,
                        std::span<float> out) {
  assert(gate.size() == up.size() && out.size() == up.size());
  HWY_DYNAMIC_DISPATCH(gelu_tanh_multiply_kernel)(gate.data(), up.data(), out.data(), out.size());
}

void gelu_erf_multiply(std::span<const float> gate, std::span<const float> up,
                       std::span<float> out) {
  assert(gate.size() == up.size() && out.size() == up.size());
  HWY_DYNAMIC_DISPATCH(gelu_erf_multiply_kernel)(gate.data(), up.data(), out.data(), out.size());
}

void quick_gelu(std::span<float> x) { HWY_DYNAMIC_DISPATCH(quick_gelu_kernel)(x.data(), x.size()); }

void sigmoid(std::span<float> x) { HWY_DYNAMIC_DISPATCH(sigmoid_kernel)(x.data(), x.size()); }

void softplus(std::span<float> x) { HWY_DYNAMIC_DISPATCH(softplus_kernel)(x.data(), x.size()); }

void soft_cap_in_place(std::span<float> x, float cap) {
  HWY_DYNAMIC_DISPATCH(soft_cap_kernel)(x.data(), cap, x.size());
}

void clamp_in_place(std::span<float> x, float low, float high) {
  HWY_DYNAMIC_DISPATCH(clamp_kernel)(x.data(), low, high, x.size());
}

void quick_gelu_multiply(std::span<const float> gate, std::span<const float> up,
                         std::span<float> out) {
  assert(gate.size() == up.size() && out.size() == up.size());
  HWY_DYNAMIC_DISPATCH(quick_gelu_multiply_kernel)(gate.data(), up.data(), out.data(), out.size());
}

void relu_multiply(std::span<const float> gate, std::span<const float> up, std::span<float> out) {
  assert(gate.size() == up.size() && out.size() == up.size());
  HWY_DYNAMIC_DISPATCH(relu_multiply_kernel)(gate.data(), up.data(), out.data(), out.size());
}

void relu_squared_multiply(std::span<const float> gate, std::span<const float> up,
                           std::span<float> out) {
  assert(gate.size() == up.size() && out.size() == up.size());
  HWY_DYNAMIC_DISPATCH(relu_squared_multiply_kernel)
  (gate.data(), up.data(), out.data(), out.size());
}

void clamped_swiglu(std::span<const float> gate, std::span<const float> up, float alpha,
                    float limit, std::span<float> out) {
  assert(gate.size() == up.size() && out.size() == up.size());
  HWY_DYNAMIC_DISPATCH(clamped_swiglu_kernel)
  (gate.data(), up.data(), alpha, limit, out.data(), out.size());
}

}  // namespace pare
#endif  // HWY_ONCE
