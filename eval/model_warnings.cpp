#include "eval/model_warnings.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/text.h"
#include "tokenizer/open_tokenizer.h"

namespace pare {
std::optional<bool> same_tokenizer(const EvaluatedModel& a, const EvaluatedModel& b) {
  const auto& left = a.source->text_files();
  const auto& right = b.source->text_files();
  const std::string name = tokenizer_file_name(left);
  if (name.empty() || name != tokenizer_file_name(right)) return std::nullopt;
  const auto parse = [](const std::string& text) {
    return nlohmann::json::parse(text, nullptr, false);
  };
  // Another layout of the same JSON is the same content.
  const bool same = left.at(name) == right.at(name) ||
                    (name.ends_with(".json") && parse(left.at(name)) == parse(right.at(name)));
  return same && (name != "vocab.json" || left.at("merges.txt") == right.at("merges.txt"));
}

std::vector<std::string> model_warnings(std::span<const EvaluatedModel> models) {
  std::vector<std::string> warnings;
  for (size_t m = 0; m < models.size(); ++m) {
    const EvaluatedModel& model = models[m];
    const std::string& path = model.source->path();
    if (!model.unused.empty()) {
      warnings.push_back("W-UNUSED: " + path + ": " + std::to_string(model.unused.size()) +
                         " tensors are not used: " + shown_names(model.unused));
    }
    if (m > 0 && !same_tokenizer(models[0], model).value_or(true)) {
      warnings.push_back(
          "W-TOKENIZER: " + path + ": its " + tokenizer_file_name(model.source->text_files()) +
          " differs from that of " + models[0].source->path() + ", whose token ids are used");
    }
  }
  return warnings;
}

std::vector<std::string> text_warnings(std::span<const EvaluatedModel> models,
                                       const TokenWindows& windows, const std::string& path,
                                       const std::string& text_sha256) {
  std::vector<std::string> warnings;
  const std::vector<int32_t> bos = bos_tokens(models[0]);
  const bool pairs = !windows.sources.empty();  // no text begins with what the decoder reads first
  if (!pairs && !bos.empty() && std::find(bos.begin(), bos.end(), windows.ids[0]) == bos.end()) {
    warnings.push_back("W-BOS: " + path + ": the token ids do not start with token " +
                       std::to_string(bos[0]) +
                       ", which config.json names as the beginning of a text");
  }
  for (const EvaluatedModel& model : models) {
    const std::string& name = model.source->path();
    const int64_t length = std::max(windows.length, windows.sources.longest());
    if (length > model.graph.max_positions && model.graph.max_positions > 0) {
      warnings.push_back("W-CTX: " + name + ": windows of " + std::to_string(length) +
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
