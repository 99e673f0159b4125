// What readers of Model Optimizer's unified checkpoints refuse.
#include <algorithm>
#include <set>

#include "engines/folder_check.h"
#include "formats/input_paths.h"
#include "formats/json_check.h"
#include "formats/mapped_file.h"
#include "formats/modelopt_config.h"
#include "pare/error.h"

namespace pare {
namespace {

// "lm_head", "model.layers.0.mlp*": a star stands for any text.
bool matches(const std::string& pattern, const std::string& text) {
  size_t position = 0;
  size_t begin = 0;
  while (true) {
    const size_t star = pattern.find('*', begin);
    const std::string part = pattern.substr(begin, star - begin);
    const bool last = star == std::string::npos;
    if (begin == 0) {
      if (!text.starts_with(part)) return false;
      position = part.size();
    } else if (last) {
      return part.empty() || (text.size() - position >= part.size() && text.ends_with(part));
    } else {
      const size_t found = text.find(part, position);
      if (found == std::string::npos) return false;
      position = found + part.size();
    }
    if (last) return position == text.size();
    begin = star + 1;
  }
}

void check_other_file(const FolderContents& folder, const ModeloptConfig& config,
                      EngineFindings& findings) {
  constexpr size_t kMostBytes = size_t{64} << 20;
  const std::string path = folder.path + "/hf_quant_config.json";
  if (!input_file_exists(path)) {
    findings.remark("hf_quant_config.json",
                    "is not there: TensorRT-LLM reads it, vLLM and SGLang do not need it");
    return;
  }
  const std::string text = read_text_file(path, kMostBytes);
  check_json(text, path);
  const ModeloptConfig other = read_modelopt_config(nlohmann::ordered_json::parse(text), path);
  if (other.algo.quant_algo != config.algo.quant_algo ||
      other.kv_cache_algo != config.kv_cache_algo || other.layers.size() != config.layers.size() ||
      other.exclude_modules != config.exclude_modules) {
    findings.refuse("hf_quant_config.json", "says something else than config.json");
  }
}

}  // namespace

void check_modelopt(const FolderContents& folder, EngineFindings& findings) {
  ModeloptConfig config;
  try {
    config = read_modelopt_config(folder.quantization, folder.path + "/config.json");
    check_other_file(folder, config, findings);
  } catch (const Error& error) {
    findings.refuse("config.json", error.what());
    return;
  }
  const auto is_to_be_quantized = [&](const std::string& module) {
    if (!config.layers.empty()) return config.layers.contains(module);
    return std::none_of(config.exclude_modules.begin(), config.exclude_modules.end(),
                        [&](const std::string& pattern) { return matches(pattern, module); });
  };
  if (config.algo.quant_algo.empty() && config.kv_cache_algo.empty()) {
    findings.refuse("config.json", "quantization_config has no quant_algo");
  }
  if (!config.algo.quant_algo.empty()) {
    check_modules(folder, ".weight_scale", is_to_be_quantized, findings);
  }
  std::set<std::string> not_everywhere;
  for (const SurveyedLinear& linear : folder.quantized) {
    const auto algo = modelopt_algo(linear.scheme);
    if (algo && (algo->quant_algo.starts_with("W4A16_AWQ") ||
                 algo->quant_algo.starts_with("W4A8") || algo->quant_algo.starts_with("W8A"))) {
      not_everywhere.insert(algo->quant_algo);
    }
  }
  for (const std::string& algo : not_everywhere) {
    findings.remark("quant_algo", algo +
                                      ": vLLM and SGLang read FP8 and NVFP4 of this form only; "
                                      "for them use compressed-tensors, awq or gptq");
  }
}

}  // namespace pare
