// What accuracy-eval prints about speculative decoding: tables for people, at most 80 columns wide.
#pragma once

#include <string>

#include "pare/speculative.h"

namespace pare::tools {

/// Acceptance of each pair, accepted tokens and speed-up by draft length, how they were computed,
/// and the warnings.
std::string render(const SpeculativeReport& report);

}  // namespace pare::tools
