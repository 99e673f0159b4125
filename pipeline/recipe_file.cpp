#include "pipeline/recipe_file.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <type_traits>

#include "pare/error.h"

namespace pare {
namespace {

using Json = nlohmann::json;

// One key of the file: writes the value where the option still has its default. Returns false for
// a value of another type.
using Setter = std::function<bool(const Json&, QuantizeOptions&)>;

// The JSON library converts between numbers and truth values without a word.
template <typename Value>
bool has_type(const Json& value) {
  if constexpr (std::is_same_v<Value, bool>) return value.is_boolean();
  if constexpr (std::is_unsigned_v<Value>) return value.is_number_unsigned();
  if constexpr (std::is_integral_v<Value>) return value.is_number_integer();
  if constexpr (std::is_floating_point_v<Value>) return value.is_number();
  if constexpr (std::is_same_v<Value, std::string>) return value.is_string();
  return value.is_array();
}

template <typename Value>
Setter set(Value QuantizeOptions::*member) {
  return [member](const Json& json, QuantizeOptions& options) {
    if (!has_type<Value>(json)) return false;
    const auto value = json.get<Value>();
    if (options.*member == QuantizeOptions{}.*member) options.*member = value;
    return true;
  };
}

const std::map<std::string, Setter>& setters() {
  static const std::map<std::string, Setter> table = {
      {"qformat", set(&QuantizeOptions::qformat)},
      {"sparsity", set(&QuantizeOptions::sparsity)},
      {"algo", set(&QuantizeOptions::algo)},
      {"rotate", set(&QuantizeOptions::rotate)},
      {"rotate_seed", set(&QuantizeOptions::rotate_seed)},
      {"calib", set(&QuantizeOptions::calibration)},
      {"calib_size", set(&QuantizeOptions::calibration_size)},
      {"calib_seqlen", set(&QuantizeOptions::calibration_seqlen)},
      {"seed", set(&QuantizeOptions::seed)},
      {"awq_block_size", set(&QuantizeOptions::awq_block_size)},
      {"symmetric", set(&QuantizeOptions::symmetric)},
      {"clip", set(&QuantizeOptions::clip)},
      {"smooth", set(&QuantizeOptions::smooth)},
      {"smooth_strength", set(&QuantizeOptions::smooth_strength)},
      {"dynamic_activations", set(&QuantizeOptions::dynamic_activations)},
      {"gptaq_alpha", set(&QuantizeOptions::gptaq_alpha)},
      {"sparsegpt_damping", set(&QuantizeOptions::sparsegpt_damping)},
      {"permute_channels", set(&QuantizeOptions::permute_channels)},
      {"uncompressed_inputs", set(&QuantizeOptions::uncompressed_inputs)},
      {"stats", set(&QuantizeOptions::stats)},
      {"kv_cache", set(&QuantizeOptions::kv_cache)},
      {"kv_scales", set(&QuantizeOptions::kv_scales)},
      {"kv_affine", set(&QuantizeOptions::kv_affine)},
      {"moe_calib", set(&QuantizeOptions::moe_calib)},
      {"parse_special", set(&QuantizeOptions::parse_special)},
      {"lora_mode", set(&QuantizeOptions::lora_mode)},
      {"exclude", set(&QuantizeOptions::exclude)},
      {"sparsity_skip", set(&QuantizeOptions::sparsity_skip)},
      {"overrides", set(&QuantizeOptions::overrides)},
  };
  return table;
}

}  // namespace

QuantizeOptions apply_recipe_file(const QuantizeOptions& options) {
  if (options.recipe.empty()) return options;
  const auto fail = [&](const std::string& what) {
    throw Error(ErrorCode::kInputMalformed, options.recipe + ": " + what);
  };
  std::ifstream file(options.recipe);
  if (!file) throw Error(ErrorCode::kInputMissing, options.recipe + ": cannot be opened");
  const Json json = Json::parse(file, nullptr, false);
  if (!json.is_object()) fail("is not a JSON object");
  // What a stored recipe says beside options.
  const std::set<std::string> remarks = {"schema", "calibration", "unquantized", "divisor"};
  QuantizeOptions result = options;
  // A stored recipe keeps apart how much text it was calibrated on; which text is not in it.
  Json values = json;
  if (json.contains("calibration") && json["calibration"].is_object()) {
    for (const char* key : {"calib_size", "calib_seqlen", "seed"}) {
      if (json["calibration"].contains(key)) values[key] = json["calibration"][key];
    }
  }
  for (const auto& [key, value] : values.items()) {
    if (remarks.contains(key)) continue;
    const auto setter = setters().find(key);
    if (setter == setters().end()) {
      std::string known;
      for (const auto& [name, unused] : setters()) known += " " + name;
      fail("key \"" + key + "\" is not known; known:" + known);
    }
    const bool given = std::find(options.explicit_options.begin(), options.explicit_options.end(),
                                 key) != options.explicit_options.end();
    QuantizeOptions ignored;  // A value that does not count is checked all the same.
    bool fits = false;
    try {
      fits = setter->second(value, given ? ignored : result);
    } catch (const Json::exception&) {
      // An array of something else.
    }
    if (!fits) {
      fail("key \"" + key + "\" has the value " + value.dump() + ", which is of the wrong type");
    }
  }
  return result;
}

}  // namespace pare
