#include "kernels/ordered_product.h"

#include <cassert>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ordered_product.cpp"
#include "hwy/foreach_target.h"
// After foreach_target: read again for each instruction set.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace pare {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

/// A block of kRows × two vectors of c in registers. Two vectors, not more: eight sums are what
/// it takes to keep two multiply-add units with a latency of four cycles busy, and AVX2 has only
/// sixteen registers.
template <size_t kRows>
HWY_INLINE void block(const OrderedProductShape& shape, const float* HWY_RESTRICT a,
                      const float* HWY_RESTRICT b, float* HWY_RESTRICT c, size_t columns) {
  static_assert(kRows == 1 || kRows == 4);
  const hn::CappedTag<float, kOrderedProductColumns> df;
  const size_t lanes = hn::Lanes(df);
  const auto k = static_cast<size_t>(shape.k);
  const auto lda = static_cast<size_t>(shape.lda);
  const auto ldb = static_cast<size_t>(shape.ldb);
  const auto ldc = static_cast<size_t>(shape.ldc);
  const auto store = [&](hn::Vec<decltype(df)> sum, size_t row, size_t column) HWY_ATTR {
    float* out = c + row * ldc + column;
    hn::StoreU(shape.accumulate ? hn::Add(hn::LoadU(df, out), sum) : sum, df, out);
  };
  size_t column = 0;
  for (; column + 2 * lanes <= columns; column += 2 * lanes) {
    auto s00 = hn::Zero(df);
    auto s01 = s00;
    auto s10 = s00;
    auto s11 = s00;
    auto s20 = s00;
    auto s21 = s00;
    auto s30 = s00;
    auto s31 = s00;
    for (size_t i = 0; i < k; ++i) {
      const auto b0 = hn::LoadU(df, b + i * ldb + column);
      const auto b1 = hn::LoadU(df, b + i * ldb + column + lanes);
      const auto a0 = hn::Set(df, a[i]);
      s00 = hn::MulAdd(a0, b0, s00);
      s01 = hn::MulAdd(a0, b1, s01);
      if constexpr (kRows == 4) {
        const auto a1 = hn::Set(df, a[lda + i]);
        s10 = hn::MulAdd(a1, b0, s10);
        s11 = hn::MulAdd(a1, b1, s11);
        const auto a2 = hn::Set(df, a[2 * lda + i]);
        s20 = hn::MulAdd(a2, b0, s20);
        s21 = hn::MulAdd(a2, b1, s21);
        const auto a3 = hn::Set(df, a[3 * lda + i]);
        s30 = hn::MulAdd(a3, b0, s30);
        s31 = hn::MulAdd(a3, b1, s31);
      }
    }
    store(s00, 0, column);
    store(s01, 0, column + lanes);
    if constexpr (kRows == 4) {
      store(s10, 1, column);
      store(s11, 1, column + lanes);
      store(s20, 2, column);
      store(s21, 2, column + lanes);
      store(s30, 3, column);
      store(s31, 3, column + lanes);
    }
  }
  for (; column < columns; column += lanes) {
    for (size_t row = 0; row < kRows; ++row) {
      auto sum = hn::Zero(df);
      for (size_t i = 0; i < k; ++i) {
        sum = hn::MulAdd(hn::Set(df, a[row * lda + i]), hn::LoadU(df, b + i * ldb + column), sum);
      }
      store(sum, row, column);
    }
  }
}

void ordered_product_kernel(const OrderedProductShape& shape, const float* a, const float* b,
                            float* c) {
  const auto columns = static_cast<size_t>(shape.n);
  int64_t row = 0;
  for (; row + 4 <= shape.m; row += 4) {
    block<4>(shape, a + row * shape.lda, b, c + row * shape.ldc, columns);
  }
  for (; row < shape.m; ++row) {
    block<1>(shape, a + row * shape.lda, b, c + row * shape.ldc, columns);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace pare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pare {

HWY_EXPORT(ordered_product_kernel);

void ordered_product(const OrderedProductShape& shape, const float* a, const float* b, float* c) {
  assert(shape.n % kOrderedProductColumns == 0);
  HWY_DYNAMIC_DISPATCH(ordered_product_kernel)(shape, a, b, c);
}

void reference::ordered_product(const OrderedProductShape& shape, const float* a, const float* b,
                                float* c) {
  for (int64_t row = 0; row < shape.m; ++row) {
    for (int64_t column = 0; column < shape.n; ++column) {
      float sum = 0;
      for (int64_t i = 0; i < shape.k; ++i) {
        sum = std::fma(a[row * shape.lda + i], b[i * shape.ldb + column], sum);
      }
      float& out = c[row * shape.ldc + column];
      out = shape.accumulate ? out + sum : sum;
    }
  }
}

}  // namespace pare
#endif  // HWY_ONCE
