#include "eval/precision.h"

#include <algorithm>

#include "kernels/matmul.h"
#include "kernels/sgemm.h"
#include "kernels/vector_math.h"

namespace pare {

std::string kernel_names(Precision precision) {
  std::string products = precision == Precision::kF32 ? "f32 " + sgemm_kernels() : matmul_kernels();
  if (precision == Precision::kBf16Pairs) products += ", inputs in bf16 pairs";
  return products + ", vectors " + vector_kernels();
}

Precision run_precision(Precision asked, std::span<const EvaluatedModel> models) {
  const bool routes = std::any_of(models.begin(), models.end(), [](const EvaluatedModel& model) {
    const auto& blocks = model.graph.blocks;
    return std::any_of(blocks.begin(), blocks.end(),
                       [](const BlockGraph& block) { return block.experts.has_value(); });
  });
  return asked == Precision::kBf16 && routes ? Precision::kBf16Pairs : asked;
}

}  // namespace pare
