// How much memory a lock-step evaluation takes, and how many windows fit at a time.
//
// Memory is one layer of one model, or all output heads, with the workers' scratch; and the hidden
// states of the windows, which is what can be cut into passes. The estimates are upper bounds for
// the large parts and a constant for the small ones; nothing here depends on the depth of a model.
//
//   MemoryPlan plan = plan_memory(models, Precision::kBf16, shape, /*max_memory=*/0);
//   for (int64_t first = 0; first < shape.windows; first += plan.windows_per_pass) …
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "eval/evaluated_model.h"
#include "kernels/attention.h"

namespace pare {

struct WorkShape {
  int64_t windows = 0;
  int64_t length = 0;         ///< Tokens a window.
  int64_t source_length = 0;  ///< Of what an encoder reads for it, at most.
  int64_t threads = 1;
  int64_t text_tokens = 0;
  int64_t extra_bytes = 0;  ///< What the caller needs beside all that is planned here.
};

struct MemoryPlan {
  int64_t fixed_bytes = 0;       ///< Layers or heads, scratch, results, the process itself.
  int64_t window_bytes = 0;      ///< Hidden states of one window in all models.
  int64_t windows_per_pass = 0;  ///< At most WorkShape::windows.
  int64_t passes() const { return (windows + windows_per_pass - 1) / windows_per_pass; }
  int64_t windows = 0;
};

/// Rows of logits that are made together for a vocabulary: a few megabytes.
int64_t logit_rows(int64_t vocab_size);

/// For each model, the first model whose head tensor is the same byte for byte (maybe itself).
std::vector<size_t> shared_heads(std::span<const EvaluatedModel> models);

/// `max_memory` 0 limits only the hidden states, to 4 GiB. Throws Error(kLimitExceeded) with the
/// number of bytes that would do when a window a thread does not fit.
MemoryPlan plan_memory(std::span<const EvaluatedModel> models, std::span<const size_t> heads,
                       Precision precision, const WorkShape& shape, int64_t max_memory);

}  // namespace pare
