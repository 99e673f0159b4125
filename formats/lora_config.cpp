#include "formats/lora_config.h"

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>

#include "formats/file_pattern.h"
#include "formats/json_check.h"
#include "formats/mapped_file.h"
#include "pare/error.h"

namespace pare {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxConfigBytes = size_t{16} << 20;
constexpr int64_t kMaxRank = int64_t{1} << 20;

/// What makes the merged weight another one than W + scale·B·A. All are off when absent or empty.
constexpr std::array<std::string_view, 8> kRefused{
    "lora_bias",  "layer_replication",       "target_parameters", "trainable_token_indices",
    "use_qalora", "alora_invocation_tokens", "arrow_config",      "use_bdlora"};

/// Initialisations that change the base weights when an adapter is attached.
constexpr std::array<std::string_view, 5> kChangesBase{"pissa", "olora", "corda", "loftq",
                                                       "lora_ga"};

[[noreturn]] void malformed(const std::string& path, const std::string& what) {
  throw Error(ErrorCode::kInputMalformed, path + ": " + what);
}

bool is_off(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
         (value.is_structured() && value.empty()) ||
         (value.is_string() && value.get_ref<const std::string&>().empty());
}

/// Reads the members of one file.
class ConfigReader {
 public:
  ConfigReader(const std::string& path, const Json& json) : path_(path), json_(json) {}

  bool flag(const char* key) const {
    const auto found = json_.find(key);
    if (found == json_.end() || found->is_null()) return false;
    if (!found->is_boolean()) malformed(path_, key + (" is " + found->dump()) + ", not a boolean");
    return found->get<bool>();
  }

  int64_t rank(const std::string& key, const Json& value) const {
    if (!value.is_number_integer() || value < 1 || value > kMaxRank) {
      malformed(path_, key + " is " + value.dump() + ", expected a rank of at least 1");
    }
    return value.get<int64_t>();
  }

  double alpha(const std::string& key, const Json& value) const {
    if (!value.is_number() || !std::isfinite(value.get<double>())) {
      malformed(path_, key + " is " + value.dump() + ", expected a number");
    }
    return value.get<double>();
  }

  const Json& required(const char* key) const {
    const auto found = json_.find(key);
    if (found == json_.end()) malformed(path_, std::string(key) + " is missing");
    return *found;
  }

  /// Calls add(pattern, value, key for messages) for each entry.
  template <typename Add>
  void patterns(const char* key, const Add& add) const {
    const auto found = json_.find(key);
    if (found == json_.end() || found->is_null()) return;
    if (!found->is_object()) malformed(path_, std::string(key) + " is not an object");
    for (const auto& [pattern, value] : found->items()) {
      add(pattern, value, std::string(key) + " \"" + pattern + "\"");
    }
  }

  void check_method() const {
    const auto type = json_.find("peft_type");
    if (type == json_.end() || *type != "LORA") {
      malformed(path_, "peft_type is " + (type == json_.end() ? "missing" : type->dump()) +
                           "; only LoRA adapters (\"LORA\") are read");
    }
    for (const std::string_view key : kRefused) {
      const auto found = json_.find(key);
      if (found != json_.end() && !is_off(*found)) {
        malformed(path_, std::string(key) + " is " + found->dump() +
                             ", a variant of LoRA that is not read; merge the adapter with PEFT");
      }
    }
    const auto bias = json_.find("bias");
    if (bias != json_.end() && *bias != "none" && *bias != "all" && *bias != "lora_only") {
      malformed(path_, "bias is " + bias->dump() + ", expected none, all or lora_only");
    }
    const auto start = json_.find("init_lora_weights");
    if (start == json_.end() || !start->is_string()) return;
    for (const std::string_view prefix : kChangesBase) {
      if (start->get_ref<const std::string&>().starts_with(prefix)) {
        malformed(path_, "init_lora_weights " + start->dump() +
                             " changes the base model; convert the adapter to plain LoRA first "
                             "(PEFT: path_initial_model_for_weight_conversion)");
      }
    }
  }

 private:
  const std::string& path_;
  const Json& json_;
};

/// PEFT's rule: `pattern` is a regular expression for the whole name or for its end after a dot.
bool matches(const std::string& pattern, const std::string& module, const std::string& path) {
  return pattern_matches(pattern, module, path, "(?:.*\\.)?(?:", ")$");
}

template <typename Value>
Value value_of(const std::vector<std::pair<std::string, Value>>& patterns, Value usual,
               const std::string& module, const std::string& path) {
  for (const auto& [pattern, value] : patterns) {
    if (matches(pattern, module, path)) return value;
  }
  return usual;
}

}  // namespace

int64_t LoraConfig::rank_of(const std::string& module) const {
  return value_of(rank_pattern, rank, module, file);
}

float LoraConfig::scale_of(const std::string& module) const {
  const auto r = static_cast<double>(rank_of(module));
  const double a = value_of(alpha_pattern, alpha, module, file);
  return static_cast<float>(a / (rank_stabilized ? std::sqrt(r) : r));
}

LoraConfig read_lora_config(const std::string& path) {
  LoraConfig config;
  config.file = path;
  config.text = read_text_file(path, kMaxConfigBytes);
  check_json(config.text, path);
  const Json json = Json::parse(config.text);
  const ConfigReader reader(path, json);
  reader.check_method();
  config.rank = reader.rank("r", reader.required("r"));
  config.alpha = reader.alpha("lora_alpha", reader.required("lora_alpha"));
  config.rank_stabilized = reader.flag("use_rslora");
  config.fan_in_fan_out = reader.flag("fan_in_fan_out");
  config.dora = reader.flag("use_dora");
  reader.patterns("rank_pattern",
                  [&](const std::string& pattern, const Json& value, const std::string& key) {
                    config.rank_pattern.emplace_back(pattern, reader.rank(key, value));
                  });
  reader.patterns("alpha_pattern",
                  [&](const std::string& pattern, const Json& value, const std::string& key) {
                    config.alpha_pattern.emplace_back(pattern, reader.alpha(key, value));
                  });
  return config;
}

}  // namespace pare
