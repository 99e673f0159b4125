// The few BLAS and LAPACK routines that the algorithms need, on plain pointers.
//
// OpenBLAS splits work as it likes when it owns several threads, and results then depend on their
// number. So it gets one thread, and the callers cut the work into fixed blocks of rows for a
// ThreadPool. All matrices are row-major. Safe to call from several threads on different outputs.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/sgemm.h"  // use_single_threaded_blas(): call it before the blocks start

namespace pare {

/// Rows [begin, end) of c [n, n] += aᵀ · a, for a [rows, n].
void add_gram_rows(std::span<const float> a, int64_t rows, int64_t n, int64_t begin, int64_t end,
                   std::span<float> c);

/// Replaces the symmetric matrix by the upper triangular U with A⁻¹ = Uᵀ U. Returns false, leaving
/// `matrix` unspecified, when it is not positive definite to working precision.
bool invert_to_upper_factor(std::span<double> matrix, int64_t n);

/// Replaces the symmetric matrix [n, n] by its inverse, both halves. Returns false when it is not
/// positive definite.
bool invert_symmetric(std::span<double> matrix, int64_t n);

/// Replaces the symmetric matrix [n, n] by its Cholesky factor, for solve_cholesky(). Returns false
/// when it is not positive definite.
bool factorize_cholesky(std::span<double> matrix, int64_t n);

/// Replaces each of the `count` rows of `rows` [count, n] by the solution x of A x = row.
void solve_cholesky(std::span<const double> factor, int64_t n, std::span<double> rows,
                    int64_t count);

}  // namespace pare
