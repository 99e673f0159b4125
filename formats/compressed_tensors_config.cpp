#include "formats/compressed_tensors_config.h"

#include <algorithm>
#include <array>

#include "formats/config_fields.h"
#include "formats/file_pattern.h"
#include "pare/error.h"

namespace pare {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kPattern = "re:";
constexpr const char* kAnyLinear = "Linear";
constexpr const char* kVersion = "0.18.0";  // of compressed-tensors, whose keys these are

/// The arguments of weights or of inputs.
struct Arguments {
  int64_t bits = 0;
  std::string type;
  std::string strategy;
  std::string dynamic = "no";  // "no", "yes" or "local"
  int64_t group_size = 0;
  std::vector<int64_t> block;
  bool symmetric = true;
};

class Reader : public ConfigFields {
 public:
  using ConfigFields::ConfigFields;

  Arguments arguments(const Json& json, const std::string& where) const {
    if (!json.is_object()) refuse(where, "is " + json.dump() + ", expected an object");
    Arguments values;
    const std::string member = where + ".";
    constexpr int64_t kMost = int64_t{1} << 30;
    values.bits = number(json, "num_bits", 0, -1, kMost, member);
    values.type = text(json, "type", member);
    values.strategy = text(json, "strategy", member);
    values.group_size = number(json, "group_size", 0, -1, kMost, member);
    const Json* symmetric = find(json, "symmetric");
    values.symmetric = symmetric == nullptr || *symmetric == true;
    if (const Json* dynamic = find(json, "dynamic"); dynamic != nullptr) {
      values.dynamic = *dynamic == true ? "yes" : *dynamic == "local" ? "local" : "no";
    }
    const Json* block = find(json, "block_structure");
    if (block != nullptr && block->is_array()) {
      for (const Json& size : *block) {
        if (!size.is_number_integer() || size < 1 || size > (int64_t{1} << 30)) {
          refuse(where + ".block_structure", "is " + block->dump() + ", expected two sizes");
        }
        values.block.push_back(size.get<int64_t>());
      }
    }
    const std::string order = text(json, "actorder", member);
    if (order == "group") {
      refuse(where + ".actorder",
             "is \"group\": groups of input channels in another order are not read");
    }
    // A strategy that is not named follows from the sizes.
    if (values.strategy.empty()) {
      values.strategy = values.group_size > 0   ? "group"
                        : values.group_size < 0 ? "channel"
                                                : "tensor";
    }
    return values;
  }

  LinearScheme weights(const Arguments& values, const std::string& where) const {
    LinearScheme scheme;
    scheme.symmetric = values.symmetric;
    const bool whole = values.type == "int";
    if (whole && values.bits == 8) {
      scheme.weight = WeightFormat::kInt8;
    } else if (whole && values.bits == 4) {
      scheme.weight = WeightFormat::kInt4;
    } else if (values.type == "float" && values.bits == 8) {
      scheme.weight = WeightFormat::kFp8E4m3;
    } else if (values.type == "float" && values.bits == 4) {
      scheme.weight =
          values.strategy == "tensor_group" ? WeightFormat::kNvfp4 : WeightFormat::kMxfp4;
    } else {
      refuse(where, "are of type \"" + values.type + "\" with " + std::to_string(values.bits) +
                        " bits; read are int with 4 or 8 and float with 4 or 8");
    }
    if (!values.symmetric && scheme.weight != WeightFormat::kInt4) {
      refuse(where + ".symmetric", "is false: zero points are read with 4 bits alone");
    }
    if (values.strategy == "tensor") {
      scheme.group_size = kPerTensor;
    } else if (values.strategy == "channel") {
      scheme.group_size = kPerChannel;
    } else if ((values.strategy == "group" || values.strategy == "tensor_group") &&
               values.group_size > 0) {
      scheme.group_size = values.group_size;
    } else if (values.strategy == "block" && values.block.size() == 2) {
      scheme.block_rows = values.block[0];
      scheme.group_size = values.block[1];
    } else {
      refuse(where + ".strategy",
             "is \"" + values.strategy + "\"; read are tensor, channel, group and block");
    }
    return scheme;
  }

  ActivationFormat inputs(const Arguments& values, const std::string& where) const {
    struct Known {
      const char* type;
      int64_t bits;
      const char* strategy;
      const char* dynamic;
      int64_t group_size;
      ActivationFormat format;
    };
    constexpr std::array<Known, 7> kKnown = {{
        {"float", 8, "tensor", "no", 0, ActivationFormat::kFp8Static},
        {"float", 8, "token", "yes", 0, ActivationFormat::kFp8Dynamic},
        {"float", 8, "group", "yes", kFp8BlockSize, ActivationFormat::kFp8Block},
        {"int", 8, "tensor", "no", 0, ActivationFormat::kInt8Static},
        {"int", 8, "token", "yes", 0, ActivationFormat::kInt8Dynamic},
        {"float", 4, "tensor_group", "local", kNvfp4Group, ActivationFormat::kNvfp4},
        {"float", 4, "group", "yes", kMxfp4Group, ActivationFormat::kMxfp4},
    }};
    for (const Known& known : kKnown) {
      if (values.type == known.type && values.bits == known.bits &&
          values.strategy == known.strategy && values.dynamic == known.dynamic &&
          values.symmetric && (known.group_size == 0 || values.group_size == known.group_size)) {
        return known.format;
      }
    }
    refuse(where, "have " + std::to_string(values.bits) + " bits of type " + values.type +
                      ", strategy " + values.strategy + ", dynamic " + values.dynamic +
                      (values.symmetric ? "" : ", zero points") + ": not read");
  }
};

// -- Writing --------------------------------------------------------------------------------------

nlohmann::json arguments_json(int bits, const char* type, const char* strategy) {
  return {{"actorder", nullptr},
          {"block_structure", nullptr},
          {"dynamic", false},
          {"group_size", nullptr},
          {"num_bits", bits},
          {"observer", "memoryless_minmax"},
          {"observer_kwargs", nlohmann::json::object()},
          {"scale_dtype", nullptr},
          {"strategy", strategy},
          {"symmetric", true},
          {"type", type},
          {"zp_dtype", nullptr}};
}

nlohmann::json weights_json(const LinearScheme& scheme) {
  const bool whole = scheme.weight == WeightFormat::kInt4 || scheme.weight == WeightFormat::kInt8;
  const char* strategy = "group";
  if (scheme.group_size == kPerTensor) strategy = "tensor";
  if (scheme.group_size == kPerChannel) strategy = "channel";
  if (scheme.block_rows > 1) strategy = "block";
  if (scheme.weight == WeightFormat::kNvfp4) strategy = "tensor_group";
  nlohmann::json json =
      arguments_json(packs_nibbles(scheme.weight) ? 4 : 8, whole ? "int" : "float", strategy);
  json["symmetric"] = scheme.symmetric;
  if (!scheme.symmetric) json["zp_dtype"] = "torch.int8";
  if (scheme.block_rows > 1) {
    json["block_structure"] = {scheme.block_rows, scheme.group_size};
  } else if (scheme.group_size > 0) {
    json["group_size"] = scheme.group_size;
  }
  if (scheme.weight == WeightFormat::kNvfp4) json["scale_dtype"] = "torch.float8_e4m3fn";
  if (scheme.weight == WeightFormat::kMxfp4) json["scale_dtype"] = "torch.uint8";
  return json;
}

nlohmann::json inputs_json(ActivationFormat activation) {
  const auto dynamic = [](nlohmann::json json, int64_t group_size = 0) {
    json["dynamic"] = true;
    json["observer"] = nullptr;
    if (group_size > 0) json["group_size"] = group_size;
    return json;
  };
  nlohmann::json json;
  switch (activation) {
    case ActivationFormat::kBf16:
      return nullptr;
    case ActivationFormat::kFp8Static:
      json = arguments_json(8, "float", "tensor");
      json["observer"] = "static_minmax";
      return json;
    case ActivationFormat::kInt8Static:
      json = arguments_json(8, "int", "tensor");
      json["observer"] = "static_minmax";
      return json;
    case ActivationFormat::kFp8Dynamic:
      return dynamic(arguments_json(8, "float", "token"));
    case ActivationFormat::kInt8Dynamic:
      return dynamic(arguments_json(8, "int", "token"));
    case ActivationFormat::kFp8Block:
      return dynamic(arguments_json(8, "float", "group"), kFp8BlockSize);
    case ActivationFormat::kMxfp4:
      json = dynamic(arguments_json(4, "float", "group"), kMxfp4Group);
      json["scale_dtype"] = "torch.uint8";
      return json;
    case ActivationFormat::kNvfp4:
      json = dynamic(arguments_json(4, "float", "tensor_group"), kNvfp4Group);
      json["dynamic"] = "local";
      json["observer"] = "static_minmax";  // of the factor that all blocks have in common
      json["scale_dtype"] = "torch.float8_e4m3fn";
      return json;
  }
  return nullptr;
}

}  // namespace

const CompressedTensorsGroup* CompressedTensorsConfig::find(const std::string& module) const {
  const std::string subject = "quantization_config";
  const auto is_pattern = [](const std::string& text) { return text.starts_with(kPattern); };
  const auto matches = [&](const std::string& text) {
    return is_pattern(text) && pattern_matches(text.substr(kPattern.size()), module, subject);
  };
  for (const std::string& text : ignore) {
    if (text == module || matches(text)) return nullptr;
  }
  for (const auto& group : groups) {
    if (std::find(group.targets.begin(), group.targets.end(), module) != group.targets.end()) {
      return &group;
    }
  }
  for (const auto& group : groups) {
    if (std::any_of(group.targets.begin(), group.targets.end(), matches)) return &group;
  }
  for (const auto& group : groups) {
    if (std::find(group.targets.begin(), group.targets.end(), kAnyLinear) != group.targets.end()) {
      return &group;
    }
  }
  return nullptr;
}

CompressedTensorsConfig read_compressed_tensors_config(const Json& json,
                                                       const std::string& subject) {
  const Reader reader(subject);
  CompressedTensorsConfig config;
  config.ignore = reader.texts(json, "ignore");
  const std::string top = reader.text(json, "format");
  const Json* groups = Reader::find(json, "config_groups");
  if (groups == nullptr || !groups->is_object()) {
    reader.refuse("config_groups", "is missing: what is quantized how is not said");
  }
  for (const auto& [name, value] : groups->items()) {
    const std::string where = "config_groups." + name;
    if (!value.is_object()) reader.refuse(where, "is " + value.dump() + ", expected an object");
    const Json* weights = Reader::find(value, "weights");
    if (weights == nullptr) reader.refuse(where + ".weights", "is missing");
    const Json* inputs = Reader::find(value, "input_activations");
    if (Reader::find(value, "output_activations") != nullptr) {
      reader.refuse(where + ".output_activations", "are not read");
    }
    CompressedTensorsGroup group;
    const Arguments arguments = reader.arguments(*weights, where + ".weights");
    group.bits = static_cast<int>(arguments.bits);
    group.scheme = reader.weights(arguments, where + ".weights");
    if (inputs != nullptr) {
      const std::string of_inputs = where + ".input_activations";
      group.scheme.activation = reader.inputs(reader.arguments(*inputs, of_inputs), of_inputs);
    }
    group.format = reader.text(value, "format", where + ".");
    if (group.format.empty()) group.format = top;
    group.targets = reader.texts(value, "targets", where + ".");
    config.groups.push_back(std::move(group));
  }
  if (const Json* cache = Reader::find(json, "kv_cache_scheme"); cache != nullptr) {
    const Arguments values = reader.arguments(*cache, "kv_cache_scheme");
    if (values.bits != 8 || values.type != "float" || values.dynamic != "no") {
      reader.refuse("kv_cache_scheme", "is " + cache->dump() + "; read is static FP8");
    }
    config.kv_cache_fp8 = true;
    config.kv_cache_per_head = values.strategy == "attn_head";
  }
  return config;
}

std::string compressed_tensors_format(const LinearScheme& scheme) {
  const bool inputs = scheme.activation != ActivationFormat::kBf16;
  switch (scheme.weight) {
    case WeightFormat::kFp8E4m3:
      return inputs ? "float-quantized" : "naive-quantized";
    case WeightFormat::kInt8:
      return inputs ? "int-quantized" : "pack-quantized";
    case WeightFormat::kInt4:
      return "pack-quantized";
    case WeightFormat::kNvfp4:
      return "nvfp4-pack-quantized";
    case WeightFormat::kMxfp4:
      return "mxfp4-pack-quantized";
    case WeightFormat::kBf16:
      break;
  }
  throw Error(ErrorCode::kInternal, "compressed-tensors has no form for weights in BF16");
}

nlohmann::json compressed_tensors_json(const CompressedTensorsConfig& config) {
  nlohmann::json groups = nlohmann::json::object();
  std::string format;
  for (size_t i = 0; i < config.groups.size(); ++i) {
    const CompressedTensorsGroup& group = config.groups[i];
    groups["group_" + std::to_string(i)] = {
        {"format", group.format},
        {"input_activations", inputs_json(group.scheme.activation)},
        {"output_activations", nullptr},
        {"targets", group.targets},
        {"weights", weights_json(group.scheme)}};
    const bool mixed = !format.empty() && format != group.format;
    format = mixed ? "mixed-precision" : group.format;
  }
  nlohmann::json cache = nullptr;
  if (config.kv_cache_fp8) {
    cache = arguments_json(8, "float", config.kv_cache_per_head ? "attn_head" : "tensor");
    cache["observer"] = "static_minmax";
  }
  return {{"config_groups", groups},
          {"format", format},
          {"global_compression_ratio", nullptr},
          {"ignore", config.ignore},
          {"kv_cache_scheme", cache},
          {"quant_method", "compressed-tensors"},
          {"quantization_status", "compressed"},
          {"sparsity_config", nlohmann::json::object()},
          {"transform_config", nlohmann::json::object()},
          {"version", kVersion}};
}

}  // namespace pare
