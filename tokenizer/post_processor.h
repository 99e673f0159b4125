// Special tokens around the ids of a text.
//
// Stateless.
//
//   apply_templates({{{0}, {1}}}, ids);  // 0 … 1
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tokenizer/tokenizer_file.h"

namespace pare {

/// Puts each template's ids around what the one before it made, in place.
void apply_templates(std::span<const PostProcessorTemplate> templates, std::vector<int32_t>& ids);

}  // namespace pare
