// Between the public form of a compressed weight (pare/checkpoint.h) and the house's own.
//
// The public form says its format in words, so that it can be written by hand; what it says is
// checked here. Pure functions; safe from any thread.
//
//   const CompressedWeight weight = to_compressed(public_weight, "m.weight");
#pragma once

#include <string>

#include "core/compressed_weight.h"
#include "pare/checkpoint.h"

namespace pare {

/// Throws Error(kUsage) naming `name` for a word that is not known, and for what validate()
/// refuses.
CompressedWeight to_compressed(const QuantizedWeight& weight, const std::string& name);

QuantizedWeight to_public(const CompressedWeight& weight);

/// Of a weight whose vectors may be missing.
WeightScheme scheme_of(const CompressedWeight& weight, bool pre_quant_scaled);

/// Throws Error(kUsage) unless rows [first, first + count) are among `rows`.
void check_rows(const std::string& name, int64_t first, int64_t count, int64_t rows);

}  // namespace pare
