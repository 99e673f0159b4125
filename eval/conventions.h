// The conventions in which perplexities are published, each a task by its name.
//
// Models with an encoder have one: pairs of source and target, teacher-forced, in which the
// target's tokens are scored. It goes by the name of "perplexity" too.
//
// A perplexity means nothing without its convention: how the text is tokenized and cut, what each
// window begins with, and which positions are scored. The report prints it beside each number.
//
//   PerplexityText text = read_perplexity_text("perplexity_llama", options, baseline);
#pragma once

#include <cstdint>
#include <span>
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
  int64_t ctx = 0;  ///< Of pairs: what sources and targets are cut to.
  int64_t stride = 0;
};

/// Tokens a window of `task` where nothing else is said.
int64_t usual_ctx(const std::string& task);

/// Tokens a window of `task`, or what sources and targets are cut to: options.ctx, or where it is 0
/// as is usual for the task and no more than the models' tables of positions hold. Throws
/// Error(kUsage) for more than that, and where a model has an encoder and the task is of texts.
int64_t perplexity_ctx(const std::string& task, const EvaluateOptions& options,
                       std::span<const EvaluatedModel> models);

/// Reads options.text as `task` says; the model's tokenizer is used. Throws Error(kInputMalformed)
/// naming the file when it holds less than one window, Error(kUsage) for a stride outside of
/// 1 … ctx, and what read_documents() and read_pairs() throw.
PerplexityText read_perplexity_text(const std::string& task, const EvaluateOptions& options,
                                    const EvaluatedModel& model);

}  // namespace pare
