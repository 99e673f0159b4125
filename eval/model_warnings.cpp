#include "eval/model_warnings.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace pare {
namespace {

std::string joined(const std::vector<std::string>& names) {
  constexpr size_t kShown = 3;
  std::string text;
  for (size_t i = 0; i < std::min(kShown, names.size()); ++i) {
    text += (i == 0 ? "" : ", ") + names[i];
  }
  return names.size() > kShown ? text + " …" : text;
}

}  // namespace

std::optional<bool> same_tokenizer(const EvaluatedModel& a, const EvaluatedModel& b) {
  const auto& left = a.source->text_files();
  const auto& right = b.source->text_files();
  const auto x = left.find("tokenizer.json");
  const auto y = right.find("tokenizer.json");
  if (x == left.end() || y == right.end()) return std::nullopt;
  if (x->second == y->second) return true;
  const auto parse = [](const std::string& text) {
    return nlohmann::json::parse(text, nullptr, false);
  };
  return parse(x->second) == parse(y->second);  // another layout of the same content
}

std::vector<std::string> model_warnings(std::span<const EvaluatedModel> models) {
  std::vector<std::string> warnings;
  for (size_t m = 0; m < models.size(); ++m) {
    const EvaluatedModel& model = models[m];
    const std::string& path = model.source->path();
    if (!model.unused.empty()) {
      warnings.push_back("W-UNUSED: " + path + ": " + std::to_string(model.unused.size()) +
                         " tensors are not used: " + joined(model.unused));
    }
    if (m > 0 && !same_tokenizer(models[0], model).value_or(true)) {
      warnings.push_back("W-TOKENIZER: " + path + ": its tokenizer.json differs from that of " +
                         models[0].source->path() + ", whose token ids are used");
    }
  }
  return warnings;
}

std::vector<std::string> text_warnings(std::span<const EvaluatedModel> models,
                                       const TokenWindows& windows, const std::string& path,
                                       const std::string& text_sha256) {
  std::vector<std::string> warnings;
  const std::vector<int32_t> bos = bos_tokens(models[0]);
  if (!bos.empty() && std::find(bos.begin(), bos.end(), windows.ids[0]) == bos.end()) {
    warnings.push_back("W-BOS: " + path + ": the token ids do not start with token " +
                       std::to_string(bos[0]) +
                       ", which config.json names as the beginning of a text");
  }
  for (const EvaluatedModel& model : models) {
    const std::string& name = model.source->path();
    if (windows.length > model.graph.max_positions && model.graph.max_positions > 0) {
      warnings.push_back("W-CTX: " + name + ": windows of " + std::to_string(windows.length) +
                         " tokens exceed the " + std::to_string(model.graph.max_positions) +
                         " positions of config.json");
    }
    if (calibration_text_sha256(model) == text_sha256) {
      warnings.push_back("W-LEAK: " + name + ": was calibrated on the text that it is evaluated " +
                         "on; its figures are better than they would be on other text");
    }
  }
  return warnings;
}

std::optional<std::string> clamp_warning(const EvaluatedModel& model, const ClampCount& clamps) {
  if (clamps.clamped <= clamps.values / 1000) return std::nullopt;
  return "W-CLAMP: " + model.source->path() + ": " + std::to_string(clamps.clamped) + " of " +
         std::to_string(clamps.values) +
         " activations exceed the range of their static scale; calibrate on text that is more "
         "like this one";
}

}  // namespace pare
