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
  template <class D, class V>
  HWY_INLINE V operator()(D d, V gate, V up) const {
    return hn::Mul(F()(d, gate), up);
  }
};

void silu_kernel(float* x, size_t size) { map1(x, x, size, Silu()); }
void gelu_tanh_kernel(float* x, size_t size) { map1(x, x, size, GeluTanh()); }
void gelu_erf_kernel(float* x, size_t size) { map1(x, x, size, GeluErf()); }
void relu_kernel(float* x, size_t size) { map1(x, x, size, Relu()); }
void relu_squared_kernel(float* x, size_t size) { map1(x, x, size, ReluSquared()); }

void silu_multiply_kernel(const float* gate, const float* up, float* out, size_t size) {
  map2(gate, up, out, size, Gated<Silu>());
}
void gelu_tanh_multiply_kernel(const float* gate, const float* up, float* out, size_t size) {
  map2(gate, up, out, size, Gated<GeluTanh>());
}
void gelu_erf_multiply_kernel(const float* gate, const float* up, float* out, size_t size) {
  map2(gate, up, out, size, Gated<GeluErf>());
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

}  // namespace pare
#endif  // HWY_ONCE
