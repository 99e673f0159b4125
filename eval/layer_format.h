// What the report says about how a linear is stored.
#pragma once

#include <string>

#include "formats/weight_source.h"

namespace pare {

/// The qformat of one linear, "int4_awq"; "bf16", "fp16" or "fp32" where it is not quantized. The
/// recipe's name where the stored codes are of that kind, else the usual name of such codes.
std::string linear_qformat(const WeightSource& source, const std::string& weight);

}  // namespace pare
