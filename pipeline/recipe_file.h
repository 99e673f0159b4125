// Options from a JSON file.
#pragma once

#include <nlohmann/json.hpp>

#include "pare/quantize.h"

namespace pare {

/// `options` with the values of the file options.recipe, where `options` still holds its default
/// and does not name the key in explicit_options.
/// Keys are the names of the options ("qformat", "calib_size", …); a recipe stored in a checkpoint
/// is accepted too. Throws Error(kInputMissing), or Error(kInputMalformed) for a key that is not
/// known or a value of another type.
QuantizeOptions apply_recipe_file(const QuantizeOptions& options);

/// What decides the numbers of a job, as such a file says it; not how much text it is calibrated
/// on.
nlohmann::json recipe_values(const QuantizeOptions& options);

}  // namespace pare
