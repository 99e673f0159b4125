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

// One key of the file.
struct Key {
  // Writes the value where the option still has its default. Returns false for a value of another
  // type.
  std::function<bool(const Json&, QuantizeOptions&)> set;
  std::function<Json(const QuantizeOptions&)> get;
  bool decides_numbers = true;  // In recipe_values(); else it says what the job reads.
};

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
Key option(Value QuantizeOptions::*member) {
  return {[member](const Json& json, QuantizeOptions& options) {
            if (!has_type<Value>(json)) return false;
            const auto value = json.get<Value>();
            if (options.*member == QuantizeOptions{}.*member) options.*member = value;
            return true;
          },
          [member](const QuantizeOptions& options) { return Json(options.*member); }};
}

template <typename Value>
Key input(Value QuantizeOptions::*member) {
  Key key = option(member);
  key.decides_numbers = false;
  return key;
}

const std::map<std::string, Key>& keys() {
  static const std::map<std::string, Key> table = {
      {"qformat", option(&QuantizeOptions::qformat)},
      {"sparsity", option(&QuantizeOptions::sparsity)},
      {"algo", option(&QuantizeOptions::algo)},
      {"rotate", option(&QuantizeOptions::rotate)},
      {"rotate_seed", option(&QuantizeOptions::rotate_seed)},
      {"calib", input(&QuantizeOptions::calibration)},
      {"calib_size", input(&QuantizeOptions::calibration_size)},
      {"calib_seqlen", input(&QuantizeOptions::calibration_seqlen)},
      {"seed", input(&QuantizeOptions::seed)},
      {"awq_block_size", option(&QuantizeOptions::awq_block_size)},
      {"symmetric", option(&QuantizeOptions::symmetric)},
      {"clip", option(&QuantizeOptions::clip)},
      {"pre_quant_scale", option(&QuantizeOptions::pre_quant_scale)},
      {"smooth", option(&QuantizeOptions::smooth)},
      {"smooth_strength", option(&QuantizeOptions::smooth_strength)},
      {"dynamic_activations", option(&QuantizeOptions::dynamic_activations)},
      {"gptaq_alpha", option(&QuantizeOptions::gptaq_alpha)},
      {"sparsegpt_damping", option(&QuantizeOptions::sparsegpt_damping)},
      {"permute_channels", option(&QuantizeOptions::permute_channels)},
      {"uncompressed_inputs", option(&QuantizeOptions::uncompressed_inputs)},
      {"stats", input(&QuantizeOptions::stats)},
      {"kv_cache", option(&QuantizeOptions::kv_cache)},
      {"kv_scales", option(&QuantizeOptions::kv_scales)},
      {"kv_affine", option(&QuantizeOptions::kv_affine)},
      {"moe_calib", option(&QuantizeOptions::moe_calib)},
      {"parse_special", option(&QuantizeOptions::parse_special)},
      {"lora_mode", input(&QuantizeOptions::lora_mode)},
      {"exclude", option(&QuantizeOptions::exclude)},
      {"sparsity_skip", option(&QuantizeOptions::sparsity_skip)},
      {"overrides", option(&QuantizeOptions::overrides)},
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
    const auto known_key = keys().find(key);
    if (known_key == keys().end()) {
      std::string known;
      for (const auto& [name, unused] : keys()) known += " " + name;
      fail("key \"" + key + "\" is not known; known:" + known);
    }
    const bool given = std::find(options.explicit_options.begin(), options.explicit_options.end(),
                                 key) != options.explicit_options.end();
    QuantizeOptions ignored;  // A value that does not count is checked all the same.
    bool fits = false;
    try {
      fits = known_key->second.set(value, given ? ignored : result);
    } catch (const Json::exception&) {
      // An array of something else.
    }
    if (!fits) {
      fail("key \"" + key + "\" has the value " + value.dump() + ", which is of the wrong type");
    }
  }
  return result;
}

nlohmann::json recipe_values(const QuantizeOptions& options) {
  Json json = {{"schema", "pare.recipe/1"}};
  for (const auto& [name, key] : keys()) {
    if (key.decides_numbers) json[name] = key.get(options);
  }
  return json;
}

}  // namespace pare
