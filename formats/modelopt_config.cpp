#include "formats/modelopt_config.h"

#include <algorithm>
#include <array>

#include "formats/config_fields.h"

namespace pare {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kMixed = "MIXED_PRECISION";
// Readers look for this name of a producer; pare_export.json says who wrote the folder.
constexpr const char* kProducer = "modelopt";
constexpr const char* kProducerVersion = "0.39.0";
constexpr int64_t kOfModule = -2;  // a group size that the module says

struct Known {
  const char* quant_algo;
  WeightFormat weight;
  ActivationFormat activation;
  int64_t group_size;
};

constexpr std::array<Known, 9> kKnown = {{
    {"FP8", WeightFormat::kFp8E4m3, ActivationFormat::kFp8Static, kPerTensor},
    {"FP8_PER_CHANNEL_PER_TOKEN", WeightFormat::kFp8E4m3, ActivationFormat::kFp8Dynamic,
     kPerChannel},
    {"W8A16", WeightFormat::kInt8, ActivationFormat::kBf16, kPerChannel},
    {"W8A8_SQ_PER_CHANNEL", WeightFormat::kInt8, ActivationFormat::kInt8Static, kPerChannel},
    {"W4A16_AWQ", WeightFormat::kInt4, ActivationFormat::kBf16, kOfModule},
    {"W4A8_AWQ", WeightFormat::kInt4, ActivationFormat::kFp8Static, kOfModule},
    {"NVFP4", WeightFormat::kNvfp4, ActivationFormat::kNvfp4, kNvfp4Group},
    {"W4A16_NVFP4", WeightFormat::kNvfp4, ActivationFormat::kBf16, kNvfp4Group},
    {"NVFP4_AWQ", WeightFormat::kNvfp4, ActivationFormat::kNvfp4, kNvfp4Group},
}};

bool has_groups(const std::string& quant_algo) {
  return quant_algo.starts_with("W4A") || quant_algo.starts_with("NVFP4");
}

bool has_input_factors(const std::string& quant_algo) { return quant_algo.ends_with("_AWQ"); }

std::string known_algos() {
  std::string names;
  for (const Known& known : kKnown)
    names += (names.empty() ? "" : ", ") + std::string(known.quant_algo);
  return names;
}

Json algo_json(const ModeloptAlgo& algo) {
  Json json = {{"quant_algo", nullptr}};
  if (algo.quant_algo.empty()) return json;
  json["quant_algo"] = algo.quant_algo;
  if (has_groups(algo.quant_algo)) json["group_size"] = algo.group_size;
  if (has_input_factors(algo.quant_algo)) {
    json["has_zero_point"] = false;
    json["pre_quant_scale"] = true;
  }
  return json;
}

ModeloptAlgo read_algo(const ConfigFields& fields, const Json& json, const std::string& where) {
  constexpr int64_t kUsualGroup = 128;
  constexpr int64_t kMostGroup = int64_t{1} << 30;
  ModeloptAlgo algo;
  algo.quant_algo = fields.text(json, "quant_algo", where);
  const bool nvfp4 = algo.quant_algo.find("NVFP4") != std::string::npos;
  algo.group_size =
      fields.number(json, "group_size", nvfp4 ? kNvfp4Group : kUsualGroup, 0, kMostGroup, where);
  return algo;
}

// A group of config_groups, for the kinds that have them.
Json group_json(const ModeloptAlgo& algo, const std::vector<std::string>& targets) {
  const LinearScheme scheme = modelopt_scheme(algo).value_or(LinearScheme{});
  const bool nvfp4 = scheme.weight == WeightFormat::kNvfp4;
  Json values = {{"dynamic", false}, {"num_bits", nvfp4 ? 4 : 8}, {"type", "float"}};
  if (nvfp4) values["group_size"] = algo.group_size;
  Json group;
  if (scheme.activation != ActivationFormat::kBf16) group["input_activations"] = values;
  group["weights"] = values;
  group["targets"] = targets;
  return group;
}

bool has_config_group(const std::string& quant_algo) {
  return quant_algo == "FP8" || quant_algo.find("NVFP4") != std::string::npos;
}

}  // namespace

std::optional<LinearScheme> modelopt_scheme(const ModeloptAlgo& algo) {
  for (const Known& known : kKnown) {
    if (algo.quant_algo != known.quant_algo) continue;
    LinearScheme scheme;
    scheme.weight = known.weight;
    scheme.activation = known.activation;
    scheme.group_size = known.group_size == kOfModule ? algo.group_size : known.group_size;
    return scheme;
  }
  return std::nullopt;
}

std::optional<ModeloptAlgo> modelopt_algo(const LinearScheme& scheme) {
  if (!scheme.symmetric || scheme.block_rows != 1) return std::nullopt;
  for (const Known& known : kKnown) {
    if (scheme.weight != known.weight || scheme.activation != known.activation) continue;
    if (known.group_size == kOfModule) return ModeloptAlgo{known.quant_algo, scheme.group_size};
    if (known.group_size != scheme.group_size) continue;
    return ModeloptAlgo{known.quant_algo, std::max<int64_t>(scheme.group_size, 0)};
  }
  return std::nullopt;
}

LinearScheme ModeloptConfig::scheme(const std::string& module, const std::string& subject) const {
  const ConfigFields fields(subject);
  const auto layer = layers.find(module);
  if (algo.quant_algo == kMixed && layer == layers.end()) {
    fields.refuse("quantized_layers", "says nothing about \"" + module + "\", which has scales");
  }
  const ModeloptAlgo& found = layer == layers.end() ? algo : layer->second;
  const std::optional<LinearScheme> scheme = modelopt_scheme(found);
  if (!scheme) {
    fields.refuse("quant_algo", "is \"" + found.quant_algo + "\"; read are " + known_algos() +
                                    " and " + kMixed + " of them");
  }
  return *scheme;
}

ModeloptConfig read_modelopt_config(const Json& json, const std::string& subject) {
  const ConfigFields fields(subject);
  const Json* inner = ConfigFields::find(json, "quantization");
  const Json& top = inner != nullptr && inner->is_object() ? *inner : json;
  ModeloptConfig config;
  config.algo = read_algo(fields, top, {});
  config.exclude_modules =
      fields.texts(top, top.contains("exclude_modules") ? "exclude_modules" : "ignore");
  if (const Json* layers = ConfigFields::find(top, "quantized_layers"); layers != nullptr) {
    if (!layers->is_object()) fields.refuse("quantized_layers", "is not an object");
    for (const auto& [name, layer] : layers->items()) {
      if (!layer.is_object()) fields.refuse("quantized_layers." + name, "is not an object");
      config.layers[name] = read_algo(fields, layer, "quantized_layers." + name + ".");
    }
  }
  config.kv_cache_algo = fields.text(top, "kv_cache_quant_algo");
  const Json* cache = ConfigFields::find(top, "kv_cache_scheme");
  if (cache != nullptr && config.kv_cache_algo.empty()) {
    if (cache->is_string()) {
      config.kv_cache_algo = cache->get<std::string>();
    } else if (cache->is_object() && fields.number(*cache, "num_bits", 0, 0, 64) == 8 &&
               fields.text(*cache, "type") == "float") {
      config.kv_cache_algo = "FP8";
    } else {
      fields.refuse("kv_cache_scheme", "is " + cache->dump() + "; read are FP8 and INT8");
    }
  }
  return config;
}

Json modelopt_json(const ModeloptConfig& config) {
  Json quantization = algo_json(config.algo);
  Json result = {{"quant_algo", quantization.at("quant_algo")}};
  if (config.kv_cache_algo.empty()) {
    result["kv_cache_quant_algo"] = nullptr;
  } else {
    result["kv_cache_quant_algo"] = config.kv_cache_algo;
  }
  for (const auto& [key, value] : quantization.items()) result[key] = value;
  if (!config.layers.empty()) {
    for (const auto& [name, algo] : config.layers)
      result["quantized_layers"][name] = algo_json(algo);
  }
  result["exclude_modules"] = config.exclude_modules;
  return {{"producer", {{"name", kProducer}, {"version", kProducerVersion}}},
          {"quantization", result}};
}

Json modelopt_config_json(const ModeloptConfig& config) {
  Json groups = Json::object();
  if (config.layers.empty()) {
    if (has_config_group(config.algo.quant_algo)) {
      groups["group_0"] = group_json(config.algo, {"Linear"});
    }
  } else {
    std::map<std::string, std::vector<std::string>> targets;
    for (const auto& [name, algo] : config.layers) targets[algo.quant_algo].push_back(name);
    for (const auto& [quant_algo, names] : targets) {
      if (!has_config_group(quant_algo)) continue;
      groups["group_" + std::to_string(groups.size())] =
          group_json(config.layers.at(names.front()), names);
    }
  }
  Json json = Json::object();
  if (!groups.empty()) json["config_groups"] = groups;
  json["ignore"] = config.exclude_modules;
  const Json inner = modelopt_json(config);
  for (const auto& [key, value] : inner.at("quantization").items()) {
    if (key != "kv_cache_quant_algo" && key != "exclude_modules") json[key] = value;
  }
  if (config.kv_cache_algo == "FP8") {
    json["kv_cache_scheme"] = {{"dynamic", false}, {"num_bits", 8}, {"type", "float"}};
  } else if (!config.kv_cache_algo.empty()) {
    json["kv_cache_scheme"] = config.kv_cache_algo;
  }
  json["producer"] = inner.at("producer");
  json["quant_method"] = "modelopt";
  return json;
}

std::vector<std::string> exclude_patterns(const std::vector<std::string>& modules,
                                          const std::set<std::string>& quantized) {
  const auto matches_none = [&](const std::string& prefix) {
    const auto first = quantized.lower_bound(prefix);
    return first == quantized.end() || !first->starts_with(prefix);
  };
  std::set<std::string> patterns;
  for (const std::string& module : modules) {
    std::string pattern = module;
    for (size_t dot = module.find('.'); dot != std::string::npos; dot = module.find('.', dot + 1)) {
      if (!matches_none(module.substr(0, dot))) continue;
      pattern = module.substr(0, dot) + "*";
      break;
    }
    patterns.insert(pattern);
  }
  return {patterns.begin(), patterns.end()};
}

}  // namespace pare
