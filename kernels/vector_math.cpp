#include "kernels/vector_math.h"

#include <cassert>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/vector_math.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: both are read again for each instruction set.
#include "hwy/highway.h"
#include "kernels/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace pare {
namespace HWY_NAMESPACE {
namespace {

// Sums for norms are taken in double throughout: a row is short beside the matrix products around
// it, and the norm's error multiplies everything after it.

/// Sum over i of f(x[i]) in double, four running sums.
template <class F>
HWY_INLINE double sum_in_double(const float* HWY_RESTRICT x, size_t size, const F& f) {
  const hn::ScalableTag<double> dd;
  const hn::Rebind<float, decltype(dd)> df;
  const size_t lanes = hn::Lanes(dd);
  auto sum0 = hn::Zero(dd);
  auto sum1 = hn::Zero(dd);
  auto sum2 = hn::Zero(dd);
  auto sum3 = hn::Zero(dd);
  size_t i = 0;
  for (; i + 4 * lanes <= size; i += 4 * lanes) {
    sum0 = hn::Add(sum0, f(dd, hn::PromoteTo(dd, hn::LoadU(df, x + i))));
    sum1 = hn::Add(sum1, f(dd, hn::PromoteTo(dd, hn::LoadU(df, x + i + lanes))));
    sum2 = hn::Add(sum2, f(dd, hn::PromoteTo(dd, hn::LoadU(df, x + i + 2 * lanes))));
    sum3 = hn::Add(sum3, f(dd, hn::PromoteTo(dd, hn::LoadU(df, x + i + 3 * lanes))));
  }
  for (; i + lanes <= size; i += lanes) {
    sum0 = hn::Add(sum0, f(dd, hn::PromoteTo(dd, hn::LoadU(df, x + i))));
  }
  const auto sum = hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3));
  double total = hn::GetLane(hn::SumOfLanes(dd, sum));
  const hn::CappedTag<double, 1> d1;
  const hn::Rebind<float, decltype(d1)> f1;
  for (; i < size; ++i) {
    total += hn::GetLane(f(d1, hn::PromoteTo(d1, hn::LoadU(f1, x + i))));
  }
  return total;
}

struct Identity {
  template <class D, class V>
  HWY_INLINE V operator()(D /*d*/, V x) const {
    return x;
  }
};

struct SquareAround {
  double centre;
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    const auto distance = hn::Sub(x, hn::Set(d, centre));
    return hn::Mul(distance, distance);
  }
};

double sum_of_squares_kernel(const float* HWY_RESTRICT x, size_t size) {
  return sum_in_double(x, size, SquareAround{0.0});
}

struct ScaleThenMultiply {
  float factor;
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x, V weight) const {
    return hn::Mul(hn::Mul(x, hn::Set(d, factor)), weight);
  }
};

struct Scaled {
  float factor;
  template <class D, class V>
  HWY_INLINE V operator()(D d, V a) const {
    return hn::Mul(a, hn::Set(d, factor));
  }
};

void rms_norm_kernel(const float* x, const float* weight, float epsilon, size_t size, float* out) {
  const double mean = sum_in_double(x, size, SquareAround{0.0}) / static_cast<double>(size);
  const float factor =
      static_cast<float>(1.0 / __builtin_sqrt(mean + static_cast<double>(epsilon)));
  if (weight == nullptr) {
    map1(x, out, size, Scaled{factor});
  } else {
    map2(x, weight, out, size, ScaleThenMultiply{factor});
  }
}

/// (x − mean) / deviation, subtracted in double: the mean may be far larger than the deviation.
void layer_norm_kernel(const float* x, const float* weight, const float* bias, float epsilon,
                       size_t size, float* out) {
  const auto count = static_cast<double>(size);
  const double mean = sum_in_double(x, size, Identity{}) / count;
  const double variance = sum_in_double(x, size, SquareAround{mean}) / count;
  const double factor = 1.0 / __builtin_sqrt(variance + static_cast<double>(epsilon));
  const hn::ScalableTag<double> dd;
  const hn::Rebind<float, decltype(dd)> df;
  const size_t lanes = hn::Lanes(dd);
  const auto means = hn::Set(dd, mean);
  const auto factors = hn::Set(dd, factor);
  size_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    const auto centred = hn::Sub(hn::PromoteTo(dd, hn::LoadU(df, x + i)), means);
    auto y = hn::DemoteTo(df, hn::Mul(centred, factors));
    if (weight != nullptr) y = hn::Mul(y, hn::LoadU(df, weight + i));
    if (bias != nullptr) y = hn::Add(y, hn::LoadU(df, bias + i));
    hn::StoreU(y, df, out + i);
  }
  for (; i < size; ++i) {
    auto y = static_cast<float>((static_cast<double>(x[i]) - mean) * factor);
    if (weight != nullptr) y *= weight[i];
    if (bias != nullptr) y += bias[i];
    out[i] = y;
  }
}

struct Sum {
  template <class D, class V>
  HWY_INLINE V operator()(D /*d*/, V a, V b) const {
    return hn::Add(a, b);
  }
};

struct Product {
  template <class D, class V>
  HWY_INLINE V operator()(D /*d*/, V a, V b) const {
    return hn::Mul(a, b);
  }
};

void add_kernel(float* x, const float* y, size_t size) { map2(x, y, x, size, Sum{}); }

void multiply_kernel(float* x, const float* y, size_t size) { map2(x, y, x, size, Product{}); }

void scale_kernel(float* x, float factor, size_t size) { map1(x, x, size, Scaled{factor}); }

struct AddScaled {
  float factor;
  template <class D, class V>
  HWY_INLINE V operator()(D d, V y, V x) const {
    // Not fused: the same on every processor.
    return hn::Add(y, hn::Mul(hn::Set(d, factor), x));
  }
};

void add_scaled_kernel(float* y, float factor, const float* x, size_t size) {
  map2(y, x, y, size, AddScaled{factor});
}

void add_bias_kernel(float* y, size_t rows, const float* bias, size_t columns) {
  for (size_t row = 0; row < rows; ++row)
    map2(y + row * columns, bias, y + row * columns, columns, Sum{});
}

void scale_to_f32_kernel(const int32_t* HWY_RESTRICT in, const float* HWY_RESTRICT column_scale,
                         bool one_scale, float row_scale, size_t size, float* HWY_RESTRICT out) {
  const hn::ScalableTag<float> df;
  const hn::RebindToSigned<decltype(df)> di;
  const size_t lanes = hn::Lanes(df);
  const auto row = hn::Set(df, row_scale);
  size_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    const auto column = one_scale ? hn::Set(df, *column_scale) : hn::LoadU(df, column_scale + i);
    const auto value = hn::ConvertTo(df, hn::LoadU(di, in + i));
    hn::StoreU(hn::Mul(value, hn::Mul(row, column)), df, out + i);
  }
  for (; i < size; ++i) {
    out[i] = static_cast<float>(in[i]) * (row_scale * column_scale[one_scale ? 0 : i]);
  }
}

/// Products and sums of a rotation, each rounded: what is left at the end is computed like the
/// rest.
void rotate_half_kernel(float* HWY_RESTRICT head, const float* HWY_RESTRICT cosine,
                        const float* HWY_RESTRICT sine, size_t half) {
  const hn::ScalableTag<float> df;
  const size_t lanes = hn::Lanes(df);
  size_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    const auto x1 = hn::LoadU(df, head + i);
    const auto x2 = hn::LoadU(df, head + half + i);
    const auto c = hn::LoadU(df, cosine + i);
    const auto s = hn::LoadU(df, sine + i);
    hn::StoreU(hn::Sub(hn::Mul(x1, c), hn::Mul(x2, s)), df, head + i);
    hn::StoreU(hn::Add(hn::Mul(x2, c), hn::Mul(x1, s)), df, head + half + i);
  }
  for (; i < half; ++i) {
    const float x1 = head[i];
    const float x2 = head[half + i];
    head[i] = x1 * cosine[i] - x2 * sine[i];
    head[half + i] = x2 * cosine[i] + x1 * sine[i];
  }
}

void rotate_interleaved_kernel(float* HWY_RESTRICT head, const float* HWY_RESTRICT cosine,
                               const float* HWY_RESTRICT sine, size_t half) {
  const hn::ScalableTag<float> df;
  const size_t lanes = hn::Lanes(df);
  size_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    auto x1 = hn::Zero(df);
    auto x2 = hn::Zero(df);
    hn::LoadInterleaved2(df, head + 2 * i, x1, x2);
    const auto c = hn::LoadU(df, cosine + i);
    const auto s = hn::LoadU(df, sine + i);
    hn::StoreInterleaved2(hn::Sub(hn::Mul(x1, c), hn::Mul(x2, s)),
                          hn::Add(hn::Mul(x2, c), hn::Mul(x1, s)), df, head + 2 * i);
  }
  for (; i < half; ++i) {
    const float x1 = head[2 * i];
    const float x2 = head[2 * i + 1];
    head[2 * i] = x1 * cosine[i] - x2 * sine[i];
    head[2 * i + 1] = x2 * cosine[i] + x1 * sine[i];
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace pare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pare {

HWY_EXPORT(sum_of_squares_kernel);
HWY_EXPORT(rms_norm_kernel);
HWY_EXPORT(layer_norm_kernel);
HWY_EXPORT(add_kernel);
HWY_EXPORT(multiply_kernel);
HWY_EXPORT(scale_kernel);
HWY_EXPORT(add_bias_kernel);
HWY_EXPORT(scale_to_f32_kernel);
HWY_EXPORT(rotate_half_kernel);
HWY_EXPORT(rotate_interleaved_kernel);
HWY_EXPORT(add_scaled_kernel);

float sum_of_squares(std::span<const float> x) {
  return static_cast<float>(HWY_DYNAMIC_DISPATCH(sum_of_squares_kernel)(x.data(), x.size()));
}

void rms_norm_row(std::span<const float> x, std::span<const float> weight, float epsilon,
                  std::span<float> out) {
  assert(weight.empty() || weight.size() == x.size());
  assert(out.size() == x.size());
  HWY_DYNAMIC_DISPATCH(rms_norm_kernel)
  (x.data(), weight.empty() ? nullptr : weight.data(), epsilon, x.size(), out.data());
}

void layer_norm_row(std::span<const float> x, std::span<const float> weight,
                    std::span<const float> bias, float epsilon, std::span<float> out) {
  assert(weight.empty() || weight.size() == x.size());
  assert(bias.empty() || bias.size() == x.size());
  assert(out.size() == x.size());
  HWY_DYNAMIC_DISPATCH(layer_norm_kernel)
  (x.data(), weight.empty() ? nullptr : weight.data(), bias.empty() ? nullptr : bias.data(),
   epsilon, x.size(), out.data());
}

void add_in_place(std::span<float> x, std::span<const float> y) {
  assert(x.size() == y.size());
  HWY_DYNAMIC_DISPATCH(add_kernel)(x.data(), y.data(), x.size());
}

void multiply_in_place(std::span<float> x, std::span<const float> y) {
  assert(x.size() == y.size());
  HWY_DYNAMIC_DISPATCH(multiply_kernel)(x.data(), y.data(), x.size());
}

void scale_in_place(std::span<float> x, float factor) {
  HWY_DYNAMIC_DISPATCH(scale_kernel)(x.data(), factor, x.size());
}

void add_scaled(std::span<float> y, float factor, std::span<const float> x) {
  assert(x.size() == y.size());
  HWY_DYNAMIC_DISPATCH(add_scaled_kernel)(y.data(), factor, x.data(), y.size());
}

void add_bias_rows(std::span<float> y, int64_t rows, std::span<const float> bias) {
  assert(y.size() == static_cast<size_t>(rows) * bias.size());
  HWY_DYNAMIC_DISPATCH(add_bias_kernel)
  (y.data(), static_cast<size_t>(rows), bias.data(), bias.size());
}

void scale_to_f32(std::span<const int32_t> in, std::span<const float> column_scale, float row_scale,
                  std::span<float> out) {
  assert(column_scale.size() == 1 || column_scale.size() == in.size());
  assert(out.size() == in.size());
  HWY_DYNAMIC_DISPATCH(scale_to_f32_kernel)
  (in.data(), column_scale.data(), column_scale.size() == 1, row_scale, in.size(), out.data());
}

std::string vector_kernels() {
  // Better instruction sets have lower bits.
  const int64_t usable = hwy::SupportedTargets() & HWY_TARGETS;
  return hwy::TargetName(usable & -usable);
}

void rotate_half(std::span<float> head, std::span<const float> cosine,
                 std::span<const float> sine) {
  assert(cosine.size() == sine.size() && 2 * cosine.size() <= head.size());
  HWY_DYNAMIC_DISPATCH(rotate_half_kernel)
  (head.data(), cosine.data(), sine.data(), cosine.size());
}

void rotate_interleaved(std::span<float> head, std::span<const float> cosine,
                        std::span<const float> sine) {
  assert(cosine.size() == sine.size() && 2 * cosine.size() <= head.size());
  HWY_DYNAMIC_DISPATCH(rotate_interleaved_kernel)
  (head.data(), cosine.data(), sine.data(), cosine.size());
}

}  // namespace pare
#endif  // HWY_ONCE
