// What a job will write, and the memory that it takes.
#include <algorithm>

#include "calib/statistics_collector.h"
#include "model/block_parameters.h"
#include "model/block_runner.h"
#include "model/expert_rows.h"
#include "model/input_groups.h"
#include "pipeline/compress_cache.h"
#include "pipeline/job_plan.h"

namespace pare {

int64_t planned_bytes(const JobPlan& plan, const LinearPlan& linear, int64_t out_features,
                      int64_t in_features) {
  CompressedWeight weight;
  weight.format = linear.format->weight;
  weight.out_features = out_features;
  weight.in_features = in_features;
  weight.sparse = linear.sparsity != SparsityMethod::kNone;
  const GridSpec spec = grid_spec(*linear.format, plan.options);
  weight.group_size = spec.group_size;
  weight.block_rows = spec.block_rows;
  int64_t bytes = out_features * (weight.row_bytes() + weight.mask_row_bytes());
  if (has_input_scale(input_activation(*linear.format, plan.options))) bytes += 4;
  if (weight.format == WeightFormat::kBf16) return bytes;
  const int64_t scales = weight.scale_rows() * weight.groups();
  bytes += is_fp4(weight.format) ? scales : 4 * scales;
  if (weight.format == WeightFormat::kNvfp4) bytes += 4;  // the global scale
  if (!spec.symmetric) bytes += scales;
  return bytes;
}

int64_t batch_windows(const QuantizeOptions& options, int64_t threads) {
  // About 8192 tokens: enough to keep every thread busy, few enough to be cheap to keep.
  const int64_t wanted = std::max<int64_t>(threads, 8192 / options.calibration_seqlen);
  return std::clamp<int64_t>(wanted, 1, options.calibration_size);
}

namespace {

int64_t distinct_plans(const JobPlan& plan, const BlockGraph& block, const InputGroup& group) {
  std::vector<LinearPlan> known;
  for (const size_t op : group.linears) {
    const LinearPlan& linear = plan.linear(block.full_name(block.ops[op]));
    if (std::find(known.begin(), known.end(), linear) == known.end()) known.push_back(linear);
  }
  return static_cast<int64_t>(known.size());
}

// What compressing the linears of a block takes, its statistics included.
int64_t compressing_bytes(const JobPlan& plan, const BlockGraph& block, int64_t threads) {
  const QuantizeOptions& options = plan.options;
  int64_t weights = 0;
  int64_t biggest = 0;
  int64_t widest = 0;
  int64_t split = 0;
  std::vector<WatchedValue> watched;
  for (const InputGroup& group : input_groups(block)) {
    watched.push_back({group.value, group.in_features, plan.needs_gram, 0, plan.needs_original});
    widest = std::max(widest, group.in_features);
    const int64_t matrix = group.in_features * group.in_features * (plan.needs_original ? 16 : 8);
    split += (distinct_plans(plan, block, group) - 1) * matrix;
    for (const size_t index : group.linears) {
      const int64_t size = block.out_features(block.ops[index]) * group.in_features;
      weights += size;
      biggest = std::max(biggest, size);
    }
  }
  // Packed BF16 of the block twice (original, compressed), its weights in FP32, and the searches'
  // copies of the largest linear; working copies of the widest Gram matrix, two in FP32 and four in
  // FP64.
  int64_t bytes = weights * (2 + 2 + 4) + biggest * 4 * 5;
  // Where a group is split, each further part has a Gram matrix of its own.
  if (plan.needs_gram) bytes += widest * widest * (8 + 4 + 4 + 8 + 8 + 8) + split;
  if (plan.needs_original) bytes += widest * widest * (8 + 4);
  // What is rotated is held in FP32 until the block is done, the largest twice while it is rotated.
  if (plan.options.rotate != "none") bytes += weights * 4 + biggest * 4;
  if (!options.calibration.empty()) {
    const int64_t batch = batch_windows(options, threads);
    // Experts see blocks of rows, whatever the windows' length.
    const int64_t rows = std::max(options.calibration_seqlen * batch, kExpertBatchTokens);
    bytes += StatisticsCollector::memory_bytes(watched, rows);
    const WorkspaceSize size{.length = std::max(options.calibration_seqlen, kChunkTokens),
                             .memory_length = block.memory >= 0 ? options.calibration_seqlen : 0};
    bytes += threads * (BlockWorkspace::memory_bytes(block, size, Precision::kBf16) +
                        kChunkTokens * widest * 4) +
             batch * options.calibration_seqlen * block.widths[0] * 4;
  }
  return bytes;
}

// Loading an expert and running tokens through it.
int64_t expert_running_bytes(const BlockGraph& expert) {
  const LinearElements elements = linear_elements(expert);
  return 2 * elements.all + 6 * elements.largest +
         BlockWorkspace::memory_bytes(expert, {.length = kChunkTokens}, Precision::kBf16);
}

}  // namespace

int64_t planned_memory(const JobPlan& plan, const ModelGraph& graph, int64_t threads) {
  const QuantizeOptions& options = plan.options;
  const bool calibrated = !options.calibration.empty();
  const int64_t tokens = options.calibration_size * options.calibration_seqlen;
  int64_t largest = 0;
  const auto add_block = [&](const BlockGraph& block) {
    int64_t bytes = compressing_bytes(plan, block, threads);
    bytes += cache_calibration_bytes(with_cache(block, plan.cache), options.calibration_size);
    if (block.experts) {
      // Of the block, the packed weights stay while its experts are worked on, one by one.
      const int64_t of_expert = compressing_bytes(plan, expert_block(block, 0), threads);
      // The uncompressed model's tokens go through the experts a few at a time.
      bytes += std::max(of_expert, plan.needs_original
                                       ? threads * expert_running_bytes(expert_block(block, 0))
                                       : 0);
      if (calibrated)
        bytes += (plan.needs_original ? 3 : 2) * ExpertRows::memory_bytes(block, tokens);
    }
    largest = std::max(largest, bytes);
  };
  for (const BlockGraph& block : graph.blocks) add_block(block);
  if (graph.encoder) {
    for (const BlockGraph& block : graph.encoder->blocks) add_block(block);
  }
  if (calibrated) {
    int64_t stacks = graph.encoder ? 2 : 1;
    if (plan.needs_original) stacks *= 2;
    largest += stacks * tokens * (graph.hidden_size * 4 + 4);
  }
  // HDF5 keeps what it knows of each dataset in a cache of up to 32 MiB, once to write and once to
  // read; the rest are libraries, generated kernels and the largest tensor that is copied whole.
  constexpr int64_t kDatasetBytes = 64 << 10;
  constexpr int64_t kMetadataCache = int64_t{40} << 20;
  const int64_t metadata =
      std::min(kMetadataCache, kDatasetBytes * static_cast<int64_t>(plan.linears.size()));
  return largest + graph.vocab_size * graph.hidden_size * 2 + (int64_t{64} << 20) + metadata;
}

}  // namespace pare
