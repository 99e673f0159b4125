#include "kernels/ordered_product.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "tests/kernels/each_target.h"
#include "tests/kernels/random_values.h"

namespace pare {
namespace {

using testing::kRandomSeed;
using testing::normal_values;

TEST(OrderedProduct, IsThePlainProduct) {
  for_each_target([] {
    for (const int64_t m : {1, 2, 3, 4, 5, 8, 11}) {
      for (const int64_t n : {16, 32, 48, 128}) {
        for (const int64_t k : {1, 2, 5, 24, 129}) {
          const OrderedProductShape shape{
              .m = m, .n = n, .k = k, .lda = k + 3, .ldb = n + 5, .ldc = n + 7};
          const auto a = normal_values(m * shape.lda, kRandomSeed);
          const auto b = normal_values(k * shape.ldb, kRandomSeed + 1);
          auto found = normal_values(m * shape.ldc, kRandomSeed + 2);
          auto expected = found;
          for (const bool accumulate : {false, true}) {
            auto with = shape;
            with.accumulate = accumulate;
            ordered_product(with, a.data(), b.data(), found.data());
            reference::ordered_product(with, a.data(), b.data(), expected.data());
            for (size_t i = 0; i < found.size(); ++i) {
              // A sum of k products near 1, with or without fused rounding.
              ASSERT_NEAR(found[i], expected[i], 2e-6F * std::sqrt(static_cast<float>(k)))
                  << m << " " << n << " " << k << " element " << i << ", seed " << kRandomSeed;
            }
          }
        }
      }
    }
  });
}

// The promise of the header: any part of the product, computed alone, has the same bytes.
TEST(OrderedProduct, PartsHaveTheSameBytes) {
  for_each_target([] {
    constexpr int64_t kSize = 128;
    constexpr int64_t kDepth = 77;
    const auto a = normal_values(kSize * kDepth, kRandomSeed);
    const auto b = normal_values(kDepth * kSize, kRandomSeed + 1);
    std::vector<float> whole(kSize * kSize);
    OrderedProductShape shape{
        .m = kSize, .n = kSize, .k = kDepth, .lda = kDepth, .ldb = kSize, .ldc = kSize};
    ordered_product(shape, a.data(), b.data(), whole.data());
    std::mt19937 random(kRandomSeed);
    for (int trial = 0; trial < 50; ++trial) {
      const auto row = static_cast<int64_t>(random() % kSize);
      const auto column = static_cast<int64_t>(random() % (kSize / 16)) * 16;
      shape.m = 1 + static_cast<int64_t>(random() % static_cast<uint32_t>(kSize - row));
      shape.n =
          16 + static_cast<int64_t>(random() % static_cast<uint32_t>(kSize - column)) / 16 * 16;
      std::vector<float> part(kSize * kSize);
      ordered_product(shape, a.data() + row * kDepth, b.data() + column, part.data());
      for (int64_t i = 0; i < shape.m; ++i) {
        for (int64_t j = 0; j < shape.n; ++j) {
          ASSERT_EQ(part[static_cast<size_t>(i * kSize + j)],
                    whole[static_cast<size_t>((row + i) * kSize + column + j)])
              << "row " << row << ", column " << column << ", seed " << kRandomSeed;
        }
      }
    }
  });
}

// Zeros at the end of k, as hidden keys are, leave sums as they are.
TEST(OrderedProduct, ZerosBeyondChangeNothing) {
  for_each_target([] {
    const auto a = normal_values(8 * 64, kRandomSeed);
    auto padded = a;
    for (size_t row = 0; row < 8; ++row) {
      for (size_t i = 40; i < 64; ++i) padded[row * 64 + i] = 0;
    }
    const auto b = normal_values(64 * 32, kRandomSeed + 1);
    OrderedProductShape shape{.m = 8, .n = 32, .k = 40, .lda = 64, .ldb = 32, .ldc = 32};
    std::vector<float> brief(8 * 32);
    std::vector<float> longer(8 * 32);
    ordered_product(shape, a.data(), b.data(), brief.data());
    shape.k = 64;
    ordered_product(shape, padded.data(), b.data(), longer.data());
    ASSERT_EQ(brief, longer);
  });
}

}  // namespace
}  // namespace pare
