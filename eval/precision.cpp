#include "eval/precision.h"

#include "kernels/matmul.h"
#include "kernels/sgemm.h"
#include "kernels/vector_math.h"

namespace pare {

std::string kernel_names(Precision precision) {
  const std::string products =
      precision == Precision::kF32 ? "f32 " + sgemm_kernels() : matmul_kernels();
  return products + ", vectors " + vector_kernels();
}

}  // namespace pare
