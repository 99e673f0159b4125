// The names of precisions in options, and which arithmetic they mean for given models.
#pragma once

#include <span>
#include <string>

#include "eval/evaluated_model.h"
#include "kernels/attention.h"
#include "pare/error.h"

namespace pare {

/// Names of all kernels that results depend on in their last digits, for reports.
std::string kernel_names(Precision precision);

/// "bf16" or "fp32". Throws Error(kUsage).
inline Precision parse_precision(const std::string& name) {
  if (name == "bf16") return Precision::kBf16;
  if (name == "fp32") return Precision::kF32;
  throw Error(ErrorCode::kUsage, "precision \"" + name + "\" is not known; expected bf16 or fp32");
}

/// What "bf16" means for these models: where one of them sends tokens to experts, kBf16Pairs.
/// Rounding moves a token between experts that are nearly tied, and then much of its hidden state
/// is another; a compressed model's distance from its baseline would contain that noise.
Precision run_precision(Precision asked, std::span<const EvaluatedModel> models);

}  // namespace pare
