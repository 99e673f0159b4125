// What accuracy-eval prints: tables for people.
#pragma once

#include <string>

#include "pare/evaluate.h"

namespace pare::tools {

/// A table for each task with how its numbers were computed, and the warnings.
std::string render(const EvaluateReport& report);

std::string render(const VerifyReport& report);

}  // namespace pare::tools
