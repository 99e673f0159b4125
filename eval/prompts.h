// The prompts of a task as token ids, arranged so that what prompts have in common runs once.
//
// A stem is the beginning that many prompts share: instructions and examples. A unit is what one
// thread runs: a stem's questions, each the rest of a prompt followed by its choices, as segments
// that branch off at the position where the shared part ends (model/block_runner.h). Tokens are
// those of the whole prompt; what is shared is found by comparing token ids, so sharing never
// changes what a model sees.
//
//   PromptPlan plan = plan_prompts(task, tokenizer, {.max_positions = 2048});
#pragma once

#include <cstdint>
#include <vector>

#include "eval/tasks/task.h"
#include "model/block_runner.h"
#include "tokenizer/tokenizer.h"

namespace pare {

struct PromptOptions {
  int64_t max_positions = 0;  ///< A prompt with its continuation has at most so many tokens + 1.
  bool reuse_prefix = true;   ///< False: each question runs its whole prompt.
};

/// A row whose logits are needed, and the tokens whose probability is asked of it.
struct ScoredRow {
  int64_t row = 0;  ///< Within the unit.
  std::vector<int32_t> tokens;
  std::vector<size_t> choices;  ///< Parallel to tokens: numbers of choices over the whole plan.
};

struct PromptUnit {
  size_t stem = 0;
  std::vector<int32_t> ids;  ///< Of all segments, one after the other.
  std::vector<Segment> segments;
  std::vector<ScoredRow> scored;
};

/// A question as it was asked.
struct PlannedItem {
  size_t group = 0;  ///< Index into Task::groups.
  size_t item = 0;
  int64_t shots = 0;  ///< Examples that fitted.
  int64_t prompt_tokens = 0;
  size_t first_choice = 0;  ///< Number of its first choice over the whole plan.
};

struct PromptPlan {
  std::vector<std::vector<int32_t>> stems;  ///< May be empty sequences.
  std::vector<PromptUnit> units;            ///< Units of one stem follow each other.
  std::vector<PlannedItem> items;           ///< In the task's order.
  size_t choices = 0;
  int64_t longest = 0;           ///< Positions that a cache must hold.
  int64_t tokens = 0;            ///< That run: stems once, and units.
  int64_t prompt_tokens = 0;     ///< Of all prompts, as if each ran whole.
  int64_t dropped_examples = 0;  ///< Questions that fitted with fewer examples than asked for.
  std::string ids_sha256;        ///< Over the token ids of all prompts and continuations.
};

/// Examples are left out from the last on until a prompt fits. Throws Error(kInputMalformed) naming
/// the question's file and line when it does not fit even without examples, or when a continuation
/// has no token.
PromptPlan plan_prompts(const Task& task, const Tokenizer& tokenizer, const PromptOptions& options);

}  // namespace pare
