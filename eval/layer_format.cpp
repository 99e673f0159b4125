#include "eval/layer_format.h"

#include <nlohmann/json.hpp>

#include "eval/evaluated_model.h"

namespace pare {
namespace {

std::string usual_format(const CompressedWeight& weight) {
  const bool weights_only = weight.activation == ActivationFormat::kBf16;
  switch (weight.format) {
    case WeightFormat::kBf16:
      return "bf16";
    case WeightFormat::kFp8E4m3:
      if (weight.activation == ActivationFormat::kFp8Block) return "fp8_block";
      return weight.group_size == kPerChannel ? "fp8_pc_pt" : "fp8";
    case WeightFormat::kInt8:
      return weights_only ? "int8_wo" : "int8_sq";
    case WeightFormat::kInt4:
      return weights_only ? "int4_wo" : "w4a8_awq";
    case WeightFormat::kNvfp4:
      return weights_only ? "nvfp4_wo" : "nvfp4";
    case WeightFormat::kMxfp4:
      return weights_only ? "mxfp4_wo" : "mxfp4";
  }
  return "unknown";
}

}  // namespace

std::string linear_qformat(const WeightSource& source, const std::string& weight) {
  if (!source.is_compressed(weight)) return dense_qformat(source.dtype(weight));
  std::string usual = usual_format(source.compressed(weight));
  const auto recipe = nlohmann::json::parse(source.recipe_json(), nullptr, false);
  if (!recipe.is_object() || !recipe.contains("qformat") || !recipe["qformat"].is_string()) {
    return usual;
  }
  // An override may have given this linear other codes than the recipe's: "int4_awq" is of the kind
  // "int4", and the two names of eight-bit integers differ in the input.
  auto named = recipe["qformat"].get<std::string>();
  const auto kind = [](const std::string& name) { return name.substr(0, name.find('_')); };
  if (kind(named) != kind(usual)) return usual;
  return kind(named) == "int4" ? named : usual;
}

}  // namespace pare
