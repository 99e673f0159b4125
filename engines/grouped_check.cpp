// What readers of AutoAWQ's and GPTQ's forms refuse.
#include <algorithm>

#include "engines/folder_check.h"
#include "formats/config_fields.h"
#include "formats/file_pattern.h"

namespace pare {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kMark = ".qweight";

bool is_head(const std::string& module) {
  return module == "lm_head" || module.ends_with(".lm_head");
}

void check_multiples(const FolderContents& folder, int64_t in_multiple, const char* form,
                     EngineFindings& findings) {
  constexpr int64_t kOutMultiple = 32;
  for (const SurveyedLinear& linear : folder.quantized) {
    if (linear.shape[0] % kOutMultiple == 0 && linear.shape[1] % in_multiple == 0) continue;
    findings.refuse(linear.module, "has shape " + shape_text(linear.shape) + "; kernels of " +
                                       form + " need a multiple of 32 outputs" +
                                       (in_multiple > 1 ? " and inputs" : ""));
  }
}

// Groups that the configuration names are those of the tensors.
void check_group_size(const FolderContents& folder, EngineFindings& findings) {
  const char* key = folder.quantization.contains("q_group_size") ? "q_group_size" : "group_size";
  const Json size = folder.quantization.value(key, Json(-1));
  for (const SurveyedLinear& linear : folder.quantized) {
    const int64_t found = linear.scheme.group_size;
    const bool fits = found > 0 ? size == found : size == -1 || size == linear.shape[1];
    if (fits) continue;
    const std::string text = found > 0 ? std::to_string(found) : "all inputs";
    findings.refuse(linear.module,
                    "has groups of " + text + ", and quantization_config says " + size.dump());
    return;  // The others will be alike.
  }
}

// Words hold as many codes as the configuration says.
void check_bits(const FolderContents& folder, EngineFindings& findings) {
  constexpr int64_t kWordBits = 32;
  const Json bits = folder.quantization.value("bits", Json(4));
  const Json dynamic = folder.quantization.value("dynamic", Json());
  const bool has_others =
      dynamic.is_object() &&
      std::any_of(dynamic.items().begin(), dynamic.items().end(),
                  [](const auto& item) { return !item.key().starts_with("-:"); });
  if (has_others) return;  // Modules with bits of their own.
  for (const SurveyedLinear& linear : folder.quantized) {
    const int64_t rows = folder.stored->shape(folder.stored_name(linear.module) + kMark)[0];
    if (bits == rows * kWordBits / linear.shape[1]) continue;
    findings.refuse(linear.module, "has codes of " +
                                       std::to_string(rows * kWordBits / linear.shape[1]) +
                                       " bits, and quantization_config says " + bits.dump());
    return;  // The others will be alike.
  }
}

}  // namespace

void check_awq(const FolderContents& folder, EngineFindings& findings) {
  const ConfigFields fields("config.json: quantization_config");
  const auto left_alone = fields.texts(folder.quantization, "modules_to_not_convert");
  check_modules(
      folder, kMark,
      [&](const std::string& module) {
        if (is_head(module)) return false;
        return std::none_of(left_alone.begin(), left_alone.end(), [&](const std::string& text) {
          return module.find(text) != std::string::npos;
        });
      },
      findings);
  check_multiples(folder, 1, "AWQ", findings);
  check_group_size(folder, findings);
}

void check_gptq(const FolderContents& folder, EngineFindings& findings) {
  const Json dynamic = folder.quantization.value("dynamic", Json());
  const bool with_head = folder.quantization.value("lm_head", Json(false)) == true;
  check_modules(
      folder, kMark,
      [&](const std::string& module) {
        if (is_head(module)) return with_head;
        if (!dynamic.is_object()) return true;
        for (const auto& [key, value] : dynamic.items()) {
          const bool excludes = key.starts_with("-:");
          if (excludes && pattern_matches(key.substr(2), module, "config.json: dynamic"))
            return false;
        }
        return true;
      },
      findings, with_head);
  constexpr int64_t kInMultiple = 32;
  check_multiples(folder, kInMultiple, "GPTQ", findings);
  check_bits(folder, findings);
  if (folder.quantization.value("desc_act", Json(false)) != true)
    check_group_size(folder, findings);
}

}  // namespace pare
