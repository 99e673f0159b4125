#include "quant/blas.h"

#include <cblas.h>

#include <algorithm>

extern "C" {
// LAPACK is part of libopenblas, whose package has no header for it. Matrices are column-major.
void dpotrf_(const char* triangle, const int* n, double* a, const int* stride, int* info);
void dtrtri_(const char* triangle, const char* diagonal, const int* n, double* a, const int* stride,
             int* info);
void dpotrs_(const char* triangle, const int* n, const int* right_sides, const double* a,
             const int* stride, double* b, const int* b_stride, int* info);
}

namespace pare {

void gemm(int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t a_stride,
          const float* b, int64_t b_stride, float beta, float* c, int64_t c_stride) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, static_cast<blasint>(m),
              static_cast<blasint>(n), static_cast<blasint>(k), alpha, a,
              static_cast<blasint>(a_stride), b, static_cast<blasint>(b_stride), beta, c,
              static_cast<blasint>(c_stride));
}

void add_gram_rows(std::span<const float> a, int64_t rows, int64_t n, int64_t begin, int64_t end,
                   std::span<float> c) {
  const auto order = static_cast<blasint>(n);
  cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, static_cast<blasint>(end - begin), order,
              static_cast<blasint>(rows), 1.0F, a.data() + begin, order, a.data(), order, 1.0F,
              c.data() + begin * n, order);
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
