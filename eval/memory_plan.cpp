#include "eval/memory_plan.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "eval/block_shape.h"
#include "model/block_parameters.h"
#include "model/block_runner.h"
#include "pare/error.h"

namespace pare {
namespace {

// Code, libraries, the tokenizer and what the matrix libraries keep for themselves.
constexpr int64_t kProcessBytes = int64_t{96} << 20;
// Ids, twice, and a result per token and model.
constexpr int64_t kTextTokenBytes = 16;
constexpr int64_t kScoreBytes = 9;
constexpr int64_t kHiddenStateBytes = int64_t{4} << 30;
constexpr int64_t kLogitBytes = int64_t{8} << 20;

// While a linear is read there are three copies of it beside those that are packed already: as
// stored, expanded, and in the layout of the matrix library.
int64_t loading_bytes(int64_t packed_elements, int64_t largest, Precision precision) {
  const int64_t wide = precision == Precision::kF32 ? 4 : 2;
  return packed_elements * wide + largest * 3 * wide;
}

int64_t layer_bytes(const EvaluatedModel& model, const BlockGraph& block, Precision precision) {
  const LinearElements elements = linear_elements(block);
  int64_t mapped = 0;
  for (const std::string& name : block_tensors(block)) {
    if (model.source->contains(name)) mapped += model.source->stored_bytes(name);
  }
  return mapped + loading_bytes(elements.all, elements.largest, precision);
}

// With its experts, of which each thread holds one.
int64_t layer_and_expert_bytes(const EvaluatedModel& model, const BlockGraph& block,
                               Precision precision, int64_t threads) {
  const int64_t own = layer_bytes(model, block, precision);
  if (!block.experts) return own;
  const BlockGraph expert = expert_block(block, 0);
  const int64_t workspace =
      BlockWorkspace::memory_bytes(expert, {.length = kChunkTokens}, precision);
  return own + threads * (layer_bytes(model, expert, precision) + workspace);
}

// Of one thread.
int64_t workspace_bytes(const BlockGraph& block, Precision precision, int64_t length,
                        int64_t source_length) {
  const int64_t rows = padded_rows(block.bidirectional() ? std::max(length, source_length)
                                                         : std::min(kChunkTokens, length));
  const int64_t widest = *std::max_element(block.widths.begin(), block.widths.end());
  // Beside the values: the rounded input, integer sums, and attention's tiles.
  return BlockWorkspace::memory_bytes(
             block, {.length = std::max(length, source_length), .memory_length = source_length},
             precision) +
         rows * 16 * widest + (int64_t{8} << 20);
}

int64_t logits_bytes(const EvaluatedModel& model, Precision precision) {
  const int64_t rows = logit_rows(model.graph.vocab_size);
  // Pairs have sums of their own for the second number.
  const int64_t sums = precision == Precision::kBf16Pairs ? 16 : 8;
  return rows * (sums * model.graph.vocab_size + 24 * model.graph.hidden_size);
}

}  // namespace

int64_t logit_rows(int64_t vocab_size) {
  constexpr std::array<int64_t, 5> kRows = {256, 128, 64, 32, 16};
  for (const int64_t rows : kRows) {
    if (rows * vocab_size * 8 <= kLogitBytes) return rows;
  }
  return kRows.back();
}

std::vector<size_t> shared_heads(std::span<const EvaluatedModel> models) {
  std::vector<size_t> result;
  const auto equal = [&](size_t a, size_t b) {
    const EvaluatedModel& left = models[a];
    const EvaluatedModel& right = models[b];
    const std::string& in_left = left.graph.head.matrix;
    const std::string& in_right = right.graph.head.matrix;
    if (left.source->is_compressed(in_left) || right.source->is_compressed(in_right)) return false;
    const TensorView x = left.source->dense(in_left);
    const TensorView y = right.source->dense(in_right);
    const bool same = x.dtype == y.dtype && x.shape == y.shape &&
                      x.bytes.size() == y.bytes.size() &&
                      std::memcmp(x.bytes.data(), y.bytes.data(), x.bytes.size()) == 0;
    left.source->release({in_left});
    right.source->release({in_right});
    return same;
  };
  for (size_t model = 0; model < models.size(); ++model) {
    size_t owner = 0;
    while (owner < model && (result[owner] != owner || !equal(owner, model))) ++owner;
    result.push_back(owner);
  }
  return result;
}

MemoryPlan plan_memory(std::span<const EvaluatedModel> models, std::span<const size_t> heads,
                       Precision precision, const WorkShape& shape, int64_t max_memory) {
  int64_t layers = 0;
  int64_t head_bytes = 0;
  int64_t loading_head = 0;
  MemoryPlan plan;
  plan.windows = shape.windows;
  std::vector<const BlockGraph*> shapes;  // those that have workspaces of their own
  int64_t workspaces = 0;
  for (size_t m = 0; m < models.size(); ++m) {
    const EvaluatedModel& model = models[m];
    int64_t of_experts = 0;  // a window's tokens, while a layer's experts run
    std::vector<const BlockGraph*> blocks;
    for (const BlockGraph& block : model.graph.blocks) blocks.push_back(&block);
    if (model.graph.encoder) {
      for (const BlockGraph& block : model.graph.encoder->blocks) blocks.push_back(&block);
      plan.window_bytes += shape.source_length * model.graph.hidden_size * 4;
    }
    for (const BlockGraph* pointer : blocks) {
      const BlockGraph& block = *pointer;
      layers = std::max(layers, layer_and_expert_bytes(model, block, precision, shape.threads));
      of_experts = std::max(of_experts, ExpertRows::memory_bytes(block, shape.length));
      const bool known = std::any_of(shapes.begin(), shapes.end(), [&](const BlockGraph* other) {
        return same_workspace(*other, block);
      });
      if (known) continue;
      shapes.push_back(&block);
      workspaces +=
          shape.threads * workspace_bytes(block, precision, shape.length, shape.source_length);
    }
    plan.window_bytes += shape.length * model.graph.hidden_size * 4;
    plan.window_bytes += of_experts;
    if (heads[m] != m) continue;
    const int64_t elements = model.graph.hidden_size * model.graph.vocab_size;
    head_bytes += loading_bytes(elements, 0, precision);
    loading_head = std::max(loading_head, loading_bytes(0, elements, precision));
  }
  const int64_t results =
      static_cast<int64_t>(models.size()) * kScoreBytes * shape.windows * shape.length;
  const int64_t scoring =
      std::max(loading_head, shape.threads * logits_bytes(models[0], precision));
  plan.fixed_bytes = kProcessBytes + results + kTextTokenBytes * shape.text_tokens + workspaces +
                     std::max(layers, head_bytes + scoring) + shape.extra_bytes;

  const int64_t least = std::min(shape.threads, shape.windows);
  int64_t fitting = kHiddenStateBytes / plan.window_bytes;
  if (max_memory > 0) {
    const int64_t needed = plan.fixed_bytes + least * plan.window_bytes;
    if (needed > max_memory) {
      throw Error(ErrorCode::kLimitExceeded,
                  "evaluation needs " + std::to_string(needed) + " bytes of memory, the limit is " +
                      std::to_string(max_memory) +
                      ": raise it, or take fewer threads or shorter windows");
    }
    fitting = (max_memory - plan.fixed_bytes) / plan.window_bytes;
  }
  plan.windows_per_pass = std::clamp(fitting, least, shape.windows);
  return plan;
}

}  // namespace pare
