// The calibration text that pare brings, for command lines that name none: 96 documents of the
// demo.
//
// JSON lines with "text". A language model wrote them, so they are like text, no more: for a model
// that matters give text like what it will see.
#pragma once

#include <string>
#include <string_view>

namespace pare {

/// The path that stands for it; a file of that name is "./builtin".
inline constexpr std::string_view kBuiltinText = "builtin";

std::string_view builtin_calibration_text();

}  // namespace pare
