// Single-precision product of small matrices whose elements are the same whatever the matrices'
// sizes are.
//
// A BLAS library chooses its loops by the size of the whole product, so that an element changes in
// the last digits when rows are added. Here each element is one chain of multiply-adds over k in
// ascending order, from zero: cutting the rows, the columns or adding rows of zeros changes
// nothing. Attention needs that, because a token's result must not depend on how a text is cut.
// Matrices are read where they lie, so they should fit the second-level cache; nothing is
// allocated. Safe from several threads on different outputs.
//
//   ordered_product({.m = rows, .n = 128, .k = head_dim, .lda = width, .ldb = 128, .ldc = 128},
//                   queries, transposed_keys, scores);
#pragma once

#include <cstdint>

namespace pare {

/// n is a multiple of this: whole vectors of every instruction set.
inline constexpr int64_t kOrderedProductColumns = 16;

struct OrderedProductShape {
  int64_t m = 0;
  int64_t n = 0;  ///< A multiple of kOrderedProductColumns.
  int64_t k = 0;
  int64_t lda = 0;  ///< Elements from one row to the next.
  int64_t ldb = 0;
  int64_t ldc = 0;
  bool accumulate = false;  ///< c += a b, where a b is summed from zero first.
};

/// c [m, n] = a [m, k] × b [k, n], row-major. Multiply-adds round once where the processor can.
void ordered_product(const OrderedProductShape& shape, const float* a, const float* b, float* c);

namespace reference {
/// The same with plain loops and std::fma.
void ordered_product(const OrderedProductShape& shape, const float* a, const float* b, float* c);
}  // namespace reference

}  // namespace pare
