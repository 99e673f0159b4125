#include "quant/blas.h"

#include <algorithm>

extern "C" {
// LAPACK is part of libopenblas, whose package has no header for it. Matrices are column-major.
void dpotrf_(const char* triangle, const int* n, double* a, const int* stride, int* info);
void dtrtri_(const char* triangle, const char* diagonal, const int* n, double* a, const int* stride,
             int* info);
void dpotri_(const char* triangle, const int* n, double* a, const int* stride, int* info);
void dpotrs_(const char* triangle, const int* n, const int* right_sides, const double* a,
             const int* stride, double* b, const int* b_stride, int* info);
}

namespace pare {

void add_gram_rows(std::span<const float> a, int64_t rows, int64_t n, int64_t begin, int64_t end,
                   std::span<float> c) {
  sgemm({.m = end - begin,
         .n = n,
         .k = rows,
         .transpose_a = true,
         .lda = n,
         .ldb = n,
         .ldc = n,
         .beta = 1},
        a.data() + begin, a.data(), c.data() + begin * n);
}

bool invert_to_upper_factor(std::span<double> matrix, int64_t n) {
  // A = R Rᵀ with R upper triangular gives A⁻¹ = R⁻ᵀ R⁻¹, so U = R⁻¹. R is the Cholesky factor of A
  // with rows and columns in reverse order, which is the array read backwards. This takes one
  // factorisation and one triangular inverse, and never forms A⁻¹, whose condition would count
  // twice in a second factorisation.
  std::reverse(matrix.begin(), matrix.end());
  const int order = static_cast<int>(n);
  int info = 0;
  // Column-major upper is row-major lower.
  dpotrf_("U", &order, matrix.data(), &order, &info);
  if (info != 0) return false;
  dtrtri_("U", "N", &order, matrix.data(), &order, &info);
  if (info != 0) return false;
  std::reverse(matrix.begin(), matrix.end());
  for (int64_t row = 1; row < n; ++row) {
    std::fill_n(matrix.begin() + row * n, row, 0.0);
  }
  return true;
}

bool invert_symmetric(std::span<double> matrix, int64_t n) {
  const int order = static_cast<int>(n);
  int info = 0;
  dpotrf_("U", &order, matrix.data(), &order, &info);
  if (info != 0) return false;
  dpotri_("U", &order, matrix.data(), &order, &info);
  if (info != 0) return false;
  // Column-major upper is row-major lower.
  for (int64_t row = 1; row < n; ++row) {
    for (int64_t column = 0; column < row; ++column) {
      matrix[static_cast<size_t>(column * n + row)] = matrix[static_cast<size_t>(row * n + column)];
    }
  }
  return true;
}

bool factorize_cholesky(std::span<double> matrix, int64_t n) {
  const int order = static_cast<int>(n);
  int info = 0;
  dpotrf_("U", &order, matrix.data(), &order, &info);
  return info == 0;
}

void solve_cholesky(std::span<const double> factor, int64_t n, std::span<double> rows,
                    int64_t count) {
  const int order = static_cast<int>(n);
  const int right_sides = static_cast<int>(count);
  int info = 0;
  // Row-major rows are the column-major right-hand sides.
  dpotrs_("U", &order, &right_sides, factor.data(), &order, rows.data(), &order, &info);
}

}  // namespace pare
