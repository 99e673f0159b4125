#include "formats/quantized_source.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "formats/awq_source.h"
#include "formats/compressed_tensors_source.h"
#include "formats/forwarding_source.h"
#include "formats/fp8_source.h"
#include "formats/gptq_source.h"
#include "formats/input_paths.h"
#include "formats/json_check.h"
#include "formats/mapped_file.h"
#include "formats/modelopt_source.h"
#include "formats/mxfp4_source.h"
#include "pare/error.h"

namespace pare {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kKey = "quantization_config";

[[noreturn]] void refuse(const WeightSource& source, const std::string& what) {
  throw Error(ErrorCode::kInputMalformed, source.path() + ": config.json: " + what);
}

/// The value as a message shows it: a string without quotes would hide what is wrong with it.
std::string shown(const Json& config, const char* key) {
  const auto found = config.find(key);
  return found == config.end() ? "missing" : found->dump();
}

Fp8Blocks block_size(const WeightSource& source, const Json& config) {
  const auto format = config.find("fmt");
  if (format != config.end() && *format != "e4m3") {
    refuse(source, std::string(kKey) + ": fmt is " + format->dump() + ", expected \"e4m3\"");
  }
  const auto blocks = config.find("weight_block_size");
  const auto size = [](const Json& value) {
    return value.is_number_unsigned() && value.get<uint64_t>() > 0 &&
           value.get<uint64_t>() <= (uint64_t{1} << 31);
  };
  if (blocks == config.end() || !blocks->is_array() || blocks->size() != 2 || !size((*blocks)[0]) ||
      !size((*blocks)[1])) {
    refuse(source, std::string(kKey) + ": quant_method \"fp8\" with weight_block_size " +
                       shown(config, "weight_block_size") +
                       ", expected two positive numbers such as [128, 128]; weights with a scale "
                       "per tensor or channel are not read, give the original model");
  }
  return {(*blocks)[0].get<int64_t>(), (*blocks)[1].get<int64_t>()};
}

/// Says config.json without the key: what is shown is not quantized, and what is written from it
/// must not claim to be.
class DequantizedConfig final : public ForwardingSource {
 public:
  DequantizedConfig(std::shared_ptr<const WeightSource> base, std::string config_json)
      : ForwardingSource(std::move(base)), config_json_(std::move(config_json)) {}
  const std::string& config_json() const override { return config_json_; }

 private:
  std::string config_json_;
};

// What stands beside config.json where that says nothing, as Model Optimizer once wrote it.
Json config_beside(const WeightSource& source) {
  constexpr size_t kMostBytes = size_t{64} << 20;
  const std::string path = source.path() + "/hf_quant_config.json";
  if (!input_file_exists(path)) return nullptr;
  const std::string text = read_text_file(path, kMostBytes);
  check_json(text, path);
  Json json = Json::parse(text);
  const auto inner = json.find("quantization");
  if (inner == json.end() || !inner->is_object()) return nullptr;
  json["quant_method"] = "modelopt";
  return json;
}

std::shared_ptr<const WeightSource> decoded(std::unique_ptr<WeightSource> source,
                                            const Json& config) {
  const std::string subject = source->path() + ": config.json: " + kKey;
  const std::string method = shown(config, "quant_method");
  if (method == "\"fp8\"") {
    const Fp8Blocks blocks = block_size(*source, config);
    return make_fp8_source(std::move(source), blocks);
  }
  if (method == "\"mxfp4\"") return make_mxfp4_source(std::move(source));
  if (method == "\"compressed-tensors\"") {
    CompressedTensorsConfig ours = read_compressed_tensors_config(config, subject);
    return make_compressed_tensors_source(std::move(source), std::move(ours));
  }
  if (method == "\"awq\"") return make_awq_source(std::move(source), config);
  if (method == "\"gptq\"") return make_gptq_source(std::move(source), config);
  if (method == "\"modelopt\"" || method == "\"modelopt_fp4\"") {
    ModeloptConfig ours = read_modelopt_config(config, subject);
    return make_modelopt_source(std::move(source), std::move(ours));
  }
  refuse(*source, std::string("the model is quantized already: ") + kKey + ": quant_method " +
                      method +
                      " is not read (\"compressed-tensors\", \"modelopt\", \"awq\", \"gptq\", "
                      "\"fp8\" in blocks and \"mxfp4\" are); give the original model");
}

}  // namespace

Json quantization_of(const WeightSource& source) {
  const Json json = Json::parse(source.config_json());
  const auto found = json.find(kKey);
  return found == json.end() || found->is_null() ? config_beside(source) : *found;
}

std::unique_ptr<WeightSource> decode_quantized(std::unique_ptr<WeightSource> source) {
  const Json config = quantization_of(*source);
  if (config.is_null()) return source;
  if (!config.is_object()) refuse(*source, std::string(kKey) + " is not an object");
  Json json = Json::parse(source->config_json());
  std::shared_ptr<const WeightSource> shown_source = decoded(std::move(source), config);
  json.erase(kKey);
  return std::make_unique<DequantizedConfig>(std::move(shown_source), json.dump(2));
}

}  // namespace pare
