// Checks that a text is JSON that two readers cannot understand differently.
#pragma once

#include <string>
#include <string_view>

namespace pare {

/// Throws Error(kInputMalformed), its message beginning with `subject`, when `text` is not one
/// JSON object, repeats a key within an object (readers differ in which one they take), or nests
/// deeper than 64 levels. Thread-safe.
///
///   check_json(header, "model.safetensors: header");
void check_json(std::string_view text, const std::string& subject);

}  // namespace pare
