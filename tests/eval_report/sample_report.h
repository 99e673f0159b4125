// Reports made by hand and at random, with all that a report can hold.
#pragma once

#include <cstdint>
#include <string>

#include "pare/evaluate_report.h"

namespace pare {

/// Perplexity and MMLU of a baseline and three candidates: FP8, INT4-AWQ, and INT4-AWQ in 2:4.
EvaluateReport sample_report(const std::string& baseline = "llama-8b");

/// A report whose structure and figures are random, of any sign and size; as JSON can hold it.
EvaluateReport random_report(uint32_t seed);

}  // namespace pare
