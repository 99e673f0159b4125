// The conventions in which perplexities are published, each a task by its name.
//
// A perplexity means nothing without its convention: how the text is tokenized and cut, what each
// window begins with, and which positions are scored. The report prints it beside each number.
//
//   PerplexityText text = read_perplexity_text("perplexity_llama", options, baseline);
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "eval/evaluated_model.h"
#include "eval/scored_windows.h"
#include "pare/evaluate.h"

namespace pare {

/// Name and one line about each.
std::vector<std::pair<std::string, std::string>> perplexity_tasks();

/// A text, tokenized and cut as a convention says.
struct PerplexityText {
  ScoredWindows scored;
  std::string method;  ///< The convention in words and numbers.
  std::string sha256;  ///< Of the file.
  int64_t text_tokens = 0;
  int64_t ctx = 0;
  int64_t stride = 0;
};

/// Reads options.text as `task` says; the model's tokenizer is used. Throws Error(kInputMalformed)
/// naming the file when it holds less than one window, Error(kUsage) for a stride outside of
/// 1 … ctx, and what read_documents() throws.
PerplexityText read_perplexity_text(const std::string& task, const EvaluateOptions& options,
                                    const EvaluatedModel& model);

}  // namespace pare
