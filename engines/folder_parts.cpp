#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "engines/folder_check.h"
#include "formats/compressed_tensors_config.h"
#include "formats/config_fields.h"
#include "formats/modelopt_config.h"
#include "pare/error.h"

namespace pare {
namespace {

using Json = nlohmann::ordered_json;
using Parts = std::vector<std::string>;

// Modules that have a tensor of one of these names.
std::set<std::string> modules_with(const WeightSource& stored,
                                   std::initializer_list<std::string_view> parts) {
  std::set<std::string> modules;
  for (const std::string& name : stored.names()) {
    const size_t dot = name.rfind('.');
    if (dot == std::string::npos) continue;
    const std::string_view part = std::string_view(name).substr(dot + 1);
    if (std::find(parts.begin(), parts.end(), part) != parts.end()) {
      modules.insert(name.substr(0, dot));
    }
  }
  return modules;
}

// Modules whose matrix is of codes, or that have a scale for codes.
std::set<std::string> modules_with_codes(const WeightSource& stored) {
  constexpr std::array<DType, 3> kCodes = {DType::kF8E4m3, DType::kI8, DType::kU8};
  std::set<std::string> modules = modules_with(stored, {"weight_packed", "weight_scale"});
  for (const std::string& module : modules_with(stored, {"weight"})) {
    const DType dtype = stored.dtype(module + ".weight");
    if (std::find(kCodes.begin(), kCodes.end(), dtype) != kCodes.end()) modules.insert(module);
  }
  return modules;
}

void expect_parts(const WeightSource& stored, const std::string& module, const Parts& parts,
                  EngineFindings& findings) {
  for (const std::string& part : parts) {
    if (stored.contains(module + "." + part)) continue;
    findings.refuse(module, "is quantized, but has no \"" + part + "\"");
  }
}

Parts parts_of(const CompressedTensorsGroup& group) {
  const LinearScheme& scheme = group.scheme;
  const bool packed = group.format.find("pack-quantized") != std::string::npos;
  Parts parts = {packed ? "weight_packed" : "weight", "weight_scale"};
  if (packed && !is_fp4(scheme.weight)) parts.emplace_back("weight_shape");
  if (!scheme.symmetric) parts.emplace_back("weight_zero_point");
  if (scheme.weight == WeightFormat::kNvfp4) parts.emplace_back("weight_global_scale");
  if (scheme.activation == ActivationFormat::kNvfp4) {
    parts.emplace_back("input_global_scale");
  } else if (has_input_scale(scheme.activation)) {
    parts.emplace_back("input_scale");
  }
  return parts;
}

Parts parts_of(const LinearScheme& modelopt) {
  Parts parts = {"weight", "weight_scale"};
  if (modelopt.weight == WeightFormat::kNvfp4) parts.emplace_back("weight_scale_2");
  if (has_input_scale(modelopt.activation)) parts.emplace_back("input_scale");
  return parts;
}

void check_compressed_tensors_parts(const WeightSource& stored, const Json& quantization,
                                    EngineFindings& findings) {
  const CompressedTensorsConfig config =
      read_compressed_tensors_config(quantization, stored.path() + "/config.json");
  for (const std::string& module : modules_with_codes(stored)) {
    if (const CompressedTensorsGroup* group = config.find(module); group != nullptr) {
      expect_parts(stored, module, parts_of(*group), findings);
    } else {
      findings.refuse(module, "has quantized tensors, but quantization_config leaves it alone");
    }
  }
}

void check_modelopt_parts(const WeightSource& stored, const Json& quantization,
                          EngineFindings& findings) {
  const std::string subject = stored.path() + "/config.json";
  const ModeloptConfig config = read_modelopt_config(quantization, subject);
  for (const std::string& module : modules_with_codes(stored)) {
    expect_parts(stored, module, parts_of(config.scheme(module, subject)), findings);
  }
}

void check_grouped_parts(const WeightSource& stored, const Json& quantization,
                         EngineFindings& findings) {
  Parts parts = {"qweight", "qzeros", "scales"};
  if (quantization.value("desc_act", Json(false)) == true) parts.emplace_back("g_idx");
  for (const std::string& module : modules_with(stored, {"qweight", "qzeros", "scales"})) {
    expect_parts(stored, module, parts, findings);
  }
}

}  // namespace

void check_parts(const WeightSource& stored, const Json& quantization, EngineFindings& findings) {
  const Json method =
      quantization.is_object() ? quantization.value("quant_method", Json()) : Json();
  try {
    if (method == "compressed-tensors") {
      check_compressed_tensors_parts(stored, quantization, findings);
    } else if (method == "modelopt" || method == "modelopt_fp4") {
      check_modelopt_parts(stored, quantization, findings);
    } else if (method == "awq" || method == "gptq") {
      check_grouped_parts(stored, quantization, findings);
    }
  } catch (const Error& error) {
    findings.refuse("config.json", error.what());
  }
}

}  // namespace pare
