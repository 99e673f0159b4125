// The names of precisions in options.
#pragma once

#include <string>

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

}  // namespace pare
