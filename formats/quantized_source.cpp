#include "formats/quantized_source.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "formats/compressed_tensors_source.h"
#include "formats/forwarding_source.h"
#include "formats/fp8_source.h"
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

}  // namespace

std::unique_ptr<WeightSource> decode_quantized(std::unique_ptr<WeightSource> source) {
  Json json = Json::parse(source->config_json());
  const auto found = json.find(kKey);
  if (found == json.end() || found->is_null()) return source;
  const Json config = *found;
  if (!config.is_object()) refuse(*source, std::string(kKey) + " is not an object");
  const std::string method = shown(config, "quant_method");
  std::shared_ptr<const WeightSource> decoded;
  if (method == "\"fp8\"") {
    const Fp8Blocks blocks = block_size(*source, config);
    decoded = make_fp8_source(std::move(source), blocks);
  } else if (method == "\"mxfp4\"") {
    decoded = make_mxfp4_source(std::move(source));
  } else if (method == "\"compressed-tensors\"") {
    const std::string subject = source->path() + ": config.json: " + kKey;
    CompressedTensorsConfig ours = read_compressed_tensors_config(config, subject);
    decoded = make_compressed_tensors_source(std::move(source), std::move(ours));
  } else {
    refuse(*source, std::string("the model is quantized already: ") + kKey + ": quant_method " +
                        method +
                        " is not read (\"compressed-tensors\", \"fp8\" in blocks and \"mxfp4\" "
                        "are); give the original model");
  }
  json.erase(kKey);
  return std::make_unique<DequantizedConfig>(std::move(decoded), json.dump(2));
}

}  // namespace pare
