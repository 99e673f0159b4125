// Single-precision matrix product through OpenBLAS, on the calling thread alone.
#pragma once

#include <cstdint>
#include <string>

namespace pare {

struct SgemmShape {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  bool transpose_a = false;  ///< a is stored [k, m] instead of [m, k].
  bool transpose_b = false;  ///< b is stored [n, k] instead of [k, n].
  int64_t lda = 0;           ///< Elements from one stored row to the next.
  int64_t ldb = 0;
  int64_t ldc = 0;
  float alpha = 1;
  float beta = 0;
};

/// c = alpha × a b + beta × c, row-major. Safe from several threads.
void sgemm(const SgemmShape& shape, const float* a, const float* b, float* c);

/// The kernels that sgemm() runs, such as "openblas SkylakeX": they decide the last digits.
std::string sgemm_kernels();

/// Keeps OpenBLAS from starting threads of its own; called by sgemm(), and by whoever calls LAPACK
/// directly. OpenBLAS has one such setting for the whole process.
void use_single_threaded_blas();

}  // namespace pare
