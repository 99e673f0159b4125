#include "pipeline/channel_permuting.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "calib/permuted_statistics.h"
#include "core/permutation.h"
#include "kernels/codec.h"
#include "kernels/sgemm.h"
#include "model/channel_order.h"
#include "pare/error.h"
#include "quant/blas.h"
#include "quant/output_error.h"
#include "quant/row_blocks.h"
#include "quant/row_error.h"
#include "sparsity/channel_permutation.h"
#include "sparsity/masks.h"
#include "sparsity/ria.h"

namespace pare {
namespace {

const InputStatistics* find_statistics(const std::map<int, InputStatistics>& statistics,
                                       int value) {
  const auto known = statistics.find(value);
  return known == statistics.end() || known->second.tokens == 0 ? nullptr : &known->second;
}

// How much each weight matters to the mask, [out, in]: what the method itself goes by. SparseGPT
// and ADMM go by squared errors, of which w² Σ x² is what a weight's own size and input say.
std::vector<float> importance(const WorkingLinear& linear, const InputStatistics* statistics,
                              ThreadPool& pool) {
  if (linear.plan.sparsity == SparsityMethod::kRia) {
    return ria_score(linear.weight, linear.out_features, linear.in_features, statistics->square_sum,
                     pool);
  }
  const bool squared = linear.plan.sparsity == SparsityMethod::kSparseGpt ||
                       linear.plan.sparsity == SparsityMethod::kAdmm;
  std::vector<float> score(linear.weight.size());
  const bool weighed = linear.plan.sparsity != SparsityMethod::kMagnitude && statistics != nullptr;
  const auto columns = static_cast<size_t>(linear.in_features);
  const std::vector<float> norm =
      weighed ? relative_norms(statistics->square_sum) : std::vector<float>(columns, 1.0F);
  // The largest weight becomes 1, so that neither squares nor sums leave the range of float.
  const float largest = absmax(linear.weight);
  const float unit = largest > 0 ? 1 / std::max(largest, std::numeric_limits<float>::min()) : 0;
  for (size_t i = 0; i < score.size(); ++i) {
    score[i] = std::abs(linear.weight[i]) * unit * norm[i % columns];
    if (squared) score[i] *= score[i];
  }
  return score;
}

// The scores of the linears that are pruned, by unit: [units, copies * rows of all of them].
std::vector<float> scores_by_unit(const ReorderableInput& input,
                                  const std::vector<const WorkingLinear*>& pruned,
                                  const InputStatistics* statistics, int64_t& width,
                                  ThreadPool& pool) {
  int64_t rows = 0;
  for (const WorkingLinear* linear : pruned) rows += linear->out_features;
  width = rows * input.copies;
  std::vector<float> scores(static_cast<size_t>(width * input.pools() * input.pool_size));
  int64_t before = 0;
  for (const WorkingLinear* linear : pruned) {
    const std::vector<float> score = importance(*linear, statistics, pool);
    pool.parallel_for(input.begin.size(), [&](size_t i, size_t) {
      const auto index = static_cast<int64_t>(i);
      const int64_t first = index / input.copies * input.pool_size;
      for (int64_t member = 0; member < input.pool_size; ++member) {
        float* to = scores.data() + (first + member) * width + index % input.copies * rows + before;
        const float* from = score.data() + input.begin[i] + member;
        for (int64_t row = 0; row < linear->out_features; ++row) {
          to[row] = from[row * linear->in_features];
        }
      }
    });
    before += linear->out_features;
  }
  return scores;
}

// What pruning without an update does to the linear's output if its channels are in this order.
double pruning_error(const WorkingLinear& linear, const Order& order,
                     const InputStatistics* statistics, const std::vector<float>& gram,
                     const std::vector<float>& sample, ThreadPool& pool) {
  const int64_t out = linear.out_features;
  const int64_t in = linear.in_features;
  std::vector<float> score = importance(linear, statistics, pool);
  permute_columns(score, order);
  const std::vector<uint8_t> keep = two_of_four_mask(score, out, in, pool);
  const auto columns = static_cast<size_t>(in);
  std::vector<float> delta(score.size());  // in the order that the weights have now
  for (size_t i = 0; i < keep.size(); ++i) {
    if (keep[i] != 0) continue;
    const size_t at = i / columns * columns + static_cast<size_t>(order[i % columns]);
    delta[at] = linear.weight[at];
  }
  if (!gram.empty()) return output_error(delta, out, in, gram, pool);
  if (sample.empty()) return output_error(delta, out, in, std::vector<float>(columns, 1.0F), pool);
  const auto tokens = static_cast<int64_t>(sample.size() / columns);
  return sum_row_blocks(out, pool, [&](int64_t begin, int64_t end) {
    const int64_t rows = end - begin;
    std::vector<float> error(static_cast<size_t>(rows * tokens));
    sgemm(
        {.m = rows, .n = tokens, .k = in, .transpose_b = true, .lda = in, .ldb = in, .ldc = tokens},
        delta.data() + begin * in, sample.data(), error.data());
    return dot(error.data(), error.data(), rows * tokens);
  });
}

bool pays(const std::vector<const WorkingLinear*>& pruned, const Order& order,
          const InputStatistics* statistics, ThreadPool& pool) {
  std::vector<float> gram;
  std::vector<float> sample;
  if (statistics != nullptr) {
    if (!statistics->gram.empty()) {
      gram = mean_gram(statistics->gram, statistics->tokens);
    } else {
      sample.resize(statistics->sample.size());
      bf16_to_f32(statistics->sample, sample);
    }
  }
  Order identity(order.size());
  std::iota(identity.begin(), identity.end(), 0);
  double before = 0;
  double after = 0;
  for (const WorkingLinear* linear : pruned) {
    before += pruning_error(*linear, identity, statistics, gram, sample, pool);
    after += pruning_error(*linear, order, statistics, gram, sample, pool);
  }
  return after < before;
}

void reorder_rows(WorkingLinear& linear, const Order& order) {
  permute_rows(linear.weight, order, static_cast<size_t>(linear.in_features));
  permute_rows(linear.bias, order, 1);
  permute_rows(linear.lora_b, order, static_cast<size_t>(linear.adapter_rank));
  permute_rows(linear.keep, order, static_cast<size_t>(linear.in_features));
  linear.row_order = compose(linear.row_order, order);
}

void reorder_columns(WorkingLinear& linear, const Order& order, ThreadPool& pool) {
  permute_columns(linear.weight, order);
  permute_columns(linear.lora_a, order);
  linear.column_order = compose(linear.column_order, order);
  if (linear.keep.empty()) return;
  linear.keep = magnitude_mask(linear.weight, linear.out_features, linear.in_features, pool);
}

void apply(const BlockGraph& block, const ReorderableInput& input, const Order& order,
           WorkingBlock& working, std::map<int, InputStatistics>& statistics, ThreadPool& pool) {
  for (const ChannelSource& source : input.sources) {
    const Op& op = block.ops[source.op];
    const Order rows = row_order(source, block.width(op.output), order);
    if (op.kind == OpKind::kLinear) {
      reorder_rows(working.linears.at(source.op), rows);
    } else {
      WorkingNorm& norm = working.norms.at(source.op);
      permute_rows(norm.weight, rows, 1);
      permute_rows(norm.bias, rows, 1);
    }
  }
  for (const size_t index : input.linears) {
    reorder_columns(working.linears.at(index), order, pool);
  }
  const auto known = statistics.find(input.value);
  if (known != statistics.end()) known->second = permute(std::move(known->second), order);
}

}  // namespace

void permute_channels(const BlockGraph& block, const JobPlan& plan, WorkingBlock& working,
                      std::map<int, InputStatistics>& statistics, ThreadPool& pool,
                      const ProgressMeter& meter) {
  const std::string& wish = plan.options.permute_channels;
  if (wish == "off") return;
  use_single_threaded_blas();
  for (const ReorderableInput& input : reorderable_inputs(block)) {
    std::vector<const WorkingLinear*> pruned;
    for (const size_t index : input.linears) {
      const WorkingLinear& linear = working.linears.at(index);
      if (linear.plan.sparsity != SparsityMethod::kNone) pruned.push_back(&linear);
    }
    if (pruned.empty()) continue;
    meter.check_cancelled();
    const InputStatistics* known = find_statistics(statistics, input.value);
    // Who prepares the sets refuses such an input, by name.
    if (known != nullptr && !std::isfinite(absmax(known->amax))) continue;
    int64_t width = 0;
    Order order;
    {
      const std::vector<float> scores = scores_by_unit(input, pruned, known, width, pool);
      order = channel_order(input, order_for_two_of_four(scores, input.pools() * input.pool_size,
                                                         width, input.pool_size, {}, pool));
    }
    meter.check_cancelled();
    if (wish == "auto" && !pays(pruned, order, known, pool)) continue;
    if (std::is_sorted(order.begin(), order.end())) continue;
    apply(block, input, order, working, statistics, pool);
  }
}

std::string with_order(const std::string& detail, const WorkingLinear& linear) {
  if (linear.column_order.empty()) return detail;
  return detail + (detail.empty() ? "" : ", ") + "channels permuted";
}

DenseTensor copy_permuted(const BlockGraph& block, const Op& op, const WorkingLinear& linear,
                          const WeightSource& source) {
  DenseTensor tensor = copy_dense(source, linear.name + ".weight");
  if (linear.row_order.empty() && linear.column_order.empty()) return tensor;
  const auto rows = static_cast<size_t>(block.out_features(op));
  const auto columns = static_cast<size_t>(block.in_features(op));
  const size_t size = dtype_size(tensor.dtype);
  tensor.bytes = op.linear.transposed ? permute_elements(tensor.bytes, columns, rows, size,
                                                         linear.column_order, linear.row_order)
                                      : permute_elements(tensor.bytes, rows, columns, size,
                                                         linear.row_order, linear.column_order);
  return tensor;
}

}  // namespace pare
