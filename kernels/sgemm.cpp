#include "kernels/sgemm.h"

#include <cblas.h>

#include <mutex>

namespace pare {

void use_single_threaded_blas() {
  static std::once_flag once;
  std::call_once(once, [] { openblas_set_num_threads(1); });
}

std::string sgemm_kernels() { return std::string("openblas ") + openblas_get_corename(); }

void sgemm(const SgemmShape& shape, const float* a, const float* b, float* c) {
  use_single_threaded_blas();
  cblas_sgemm(CblasRowMajor, shape.transpose_a ? CblasTrans : CblasNoTrans,
              shape.transpose_b ? CblasTrans : CblasNoTrans, static_cast<blasint>(shape.m),
              static_cast<blasint>(shape.n), static_cast<blasint>(shape.k), shape.alpha, a,
              static_cast<blasint>(shape.lda), b, static_cast<blasint>(shape.ldb), shape.beta, c,
              static_cast<blasint>(shape.ldc));
}

}  // namespace pare
