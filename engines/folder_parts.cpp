// Whether each quantized linear of a folder has all its tensors, before anything reads them as one.
#include <algorithm>
#include <array>
#include <cmath>
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
  const bool two_levels = modelopt.weight == WeightFormat::kNvfp4 ||
                          (modelopt.weight == WeightFormat::kInt4 &&
                           modelopt.activation == ActivationFormat::kFp8Static);
  if (two_levels) parts.emplace_back("weight_scale_2");
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

// Scales of a tensor that is decoded with the weights: nobody else looks at them.
void check_scales(const WeightSource& stored, const std::string& name, EngineFindings& findings) {
  const TensorView view = stored.dense(name);
  // The exponents of MXFP4 are bytes, of which one is no number.
  constexpr std::byte kNoExponent{255};
  bool good = true;
  if (view.dtype == DType::kU8) {
    good = std::find(view.bytes.begin(), view.bytes.end(), kNoExponent) == view.bytes.end();
  } else {
    const std::vector<float> values = to_f32(view, name);
    good = std::all_of(values.begin(), values.end(),
                       [](float value) { return std::isfinite(value) && value > 0; });
  }
  stored.release({name});
  if (good) return;
  findings.refuse(name, "holds what is no scale: zero, negative, or not a finite number");
}

void check_fp8_blocks(const WeightSource& stored, const Json& quantization,
                      EngineFindings& findings) {
  const ConfigFields fields(stored.path() + "/config.json: quantization_config");
  const auto left_alone = fields.texts(quantization, "modules_to_not_convert");
  for (const std::string& module : modules_with(stored, {"weight"})) {
    if (stored.dtype(module + ".weight") != DType::kF8E4m3) continue;
    ++findings.quantized_linears;
    const std::string scale = module + ".weight_scale_inv";
    if (!stored.contains(scale)) {
      findings.refuse(module, "is quantized, but has no \"weight_scale_inv\"");
    } else {
      check_scales(stored, scale, findings);
    }
    const bool is_left_alone =
        std::any_of(left_alone.begin(), left_alone.end(), [&](const std::string& text) {
          return ("." + module + ".").find("." + text + ".") != std::string::npos;
        });
    if (is_left_alone) {
      findings.refuse(module, "has quantized tensors, but quantization_config leaves it alone");
    }
  }
}

void check_mxfp4(const WeightSource& stored, EngineFindings& findings) {
  constexpr std::string_view kBlocks = "_blocks";
  for (const std::string& name : stored.names()) {
    if (!name.ends_with(kBlocks)) continue;
    ++findings.quantized_linears;
    const std::string experts = name.substr(0, name.size() - kBlocks.size());
    if (stored.contains(experts + "_scales")) {
      check_scales(stored, experts + "_scales", findings);
    } else {
      findings.refuse(experts, "has \"_blocks\", but no \"_scales\"");
    }
  }
}

// Without a configuration engines take codes for weights.
void check_unquantized(const WeightSource& stored, EngineFindings& findings) {
  for (const std::string& module : modules_with_codes(stored)) {
    findings.refuse(module, "has quantized tensors, and config.json has no quantization_config");
  }
}

}  // namespace

void check_parts(const WeightSource& stored, const Json& quantization, EngineFindings& findings) {
  const std::string form = form_of(quantization);
  try {
    if (quantization.is_null()) {
      check_unquantized(stored, findings);
    } else if (form == "fp8") {
      check_fp8_blocks(stored, quantization, findings);
    } else if (form == "mxfp4") {
      check_mxfp4(stored, findings);
    } else if (form == "compressed-tensors") {
      check_compressed_tensors_parts(stored, quantization, findings);
    } else if (form == "modelopt" || form == "modelopt_fp4") {
      check_modelopt_parts(stored, quantization, findings);
    } else if (form == "awq" || form == "gptq") {
      check_grouped_parts(stored, quantization, findings);
    }
  } catch (const Error& error) {
    findings.refuse("config.json", error.what());
  }
}

}  // namespace pare
