// What is odd about models and the text that they are measured on, as lines for a report.
//
// Each begins with a code ("W-TOKENIZER: …") that scripts can look for. Pure functions.
//
//   for (const std::string& warning : model_warnings(models)) warn(warning);
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "calib/token_source.h"
#include "eval/evaluated_model.h"
#include "model/linear.h"

namespace pare {

/// Whether the contents of both tokenizers' main files are equal (tokenizer.json, or what
/// open_tokenizer would read); absent where a model has none or they are of two kinds.
std::optional<bool> same_tokenizer(const EvaluatedModel& a, const EvaluatedModel& b);

/// What is odd about the models whatever they are measured on: W-UNUSED, W-TOKENIZER. Token ids
/// come from the first.
std::vector<std::string> model_warnings(std::span<const EvaluatedModel> models);

/// W-BOS, W-CTX, W-LEAK. `path` is the text's and `text_sha256` its digest.
std::vector<std::string> text_warnings(std::span<const EvaluatedModel> models,
                                       const TokenWindows& windows, const std::string& path,
                                       const std::string& text_sha256);

/// W-CLAMP, where more than a thousandth of the activations exceed their static range.
std::optional<std::string> clamp_warning(const EvaluatedModel& model, const ClampCount& clamps);

}  // namespace pare
