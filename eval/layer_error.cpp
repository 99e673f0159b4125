#include "eval/layer_error.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <string>

#include "eval/block_shape.h"
#include "eval/channel_match.h"
#include "eval/clusters.h"
#include "eval/intervals.h"
#include "eval/layer_divergence.h"
#include "eval/layer_format.h"
#include "eval/layer_match.h"
#include "eval/layer_scales.h"
#include "eval/layer_swap.h"
#include "eval/lockstep.h"
#include "formats/beside_source.h"
#include "model/block_parameters.h"
#include "model/block_runner.h"
#include "model/layer_runner.h"
#include "model/token_embedding.h"
#include "pare/error.h"

namespace pare {
namespace {

// Reading and packing a parameter costs about as much as so many multiplications.
constexpr double kLoadCost = 100;

// The states that all of a pass share: the baseline's where it begins, and after the last block.
constexpr int64_t kBaselineStates = 2;

// A linear whose swap has to be run.
struct Swap {
  size_t block = 0;
  size_t op = 0;
  size_t result = 0;  // index into the errors
};

// Some windows, with the baseline's hidden states.
struct WindowGroup {
  int64_t first = 0;
  int64_t count = 0;
  std::vector<float> begin;  // at the input of `block`
  size_t block = 0;
  std::vector<float> end;  // after the last block
};

class Measurement {
 public:
  Measurement(const EvaluatedModel& baseline, const EvaluatedModel& candidate,
              const TokenWindows& windows, const LayerErrorSetup& setup, ThreadPool& pool,
              ProgressMeter& meter)
      : baseline_(baseline),
        candidate_(candidate),
        windows_(windows),
        setup_(setup),
        pool_(pool),
        meter_(meter),
        positions_(windows.length),
        divergence_(baseline, windows, setup.precision, pool, meter) {}

  std::vector<LayerError> run() {
    list_linears();
    if (!swaps_.empty() || head_) {
      plan();
      const int64_t groups = (windows_.count + group_windows_ - 1) / group_windows_;
      for (int64_t group = 0; group < groups; ++group) run_group(group, groups);
    }
    for (size_t i = 0; i < errors_.size(); ++i) {
      const Estimate mean = clustered_estimate(kl_[i], Clusters::independent(kl_[i].size()));
      // A single window says nothing about the spread between windows.
      errors_[i].kl_mean = {mean.mean, mean.standard_error,
                            t_interval(mean, static_cast<double>(kl_[i].size()))};
      errors_[i].sqnr_db = output_[i].decibel();
    }
    return std::move(errors_);
  }

 private:
  const std::vector<BlockGraph>& blocks() const { return baseline_.graph.blocks; }
  int64_t window_size() const { return windows_.length * baseline_.graph.hidden_size; }

  void list_linears() {
    for (size_t b = 0; b < blocks().size(); ++b) {
      const BlockGraph& block = blocks()[b];
      meter_.phase("evaluate", "error by layer, comparing weights");
      meter_.check_cancelled();
      const std::vector<bool> equal = equal_linears(baseline_, candidate_, b);
      for (size_t op = 0; op < block.ops.size(); ++op) {
        if (block.ops[op].kind != OpKind::kLinear) continue;
        if (!equal[op]) swaps_.push_back({b, op, errors_.size()});
        add_linear(block.full_name(block.ops[op]), block.out_features(block.ops[op]),
                   block.in_features(block.ops[op]));
      }
    }
    if (!heads_differ(baseline_, candidate_)) return;
    head_ = errors_.size();
    const std::string& head = candidate_.graph.head.matrix;
    add_linear(head.substr(0, head.rfind(".weight")), baseline_.graph.vocab_size,
               baseline_.graph.hidden_size);
  }

  void add_linear(const std::string& name, int64_t out, int64_t in) {
    errors_.push_back(
        {name, out, in, linear_qformat(*candidate_.source, name + ".weight"), {}, {}});
    kl_.emplace_back(static_cast<size_t>(windows_.count));
    output_.emplace_back();
  }

  // All windows at a time where they fit, for a pass reads the blocks again.
  void plan() {
    const int64_t window_bytes = window_size() * int64_t{sizeof(float)};
    const int64_t least = least_hidden_bytes(baseline_, windows_);
    group_windows_ = std::clamp<int64_t>(setup_.hidden_bytes / least, 1, windows_.count);
    const int64_t states = setup_.hidden_bytes / (window_bytes * group_windows_);
    pass_swaps_ = static_cast<size_t>(std::max<int64_t>(states - kBaselineStates, 1));

    const LockstepRunner forward(one(baseline_), lockstep_options(), pool_, meter_);
    double total = 0;
    for (int64_t first = 0; first < windows_.count; first += group_windows_) {
      const int64_t count = std::min(group_windows_, windows_.count - first);
      total += forward.cost(count) + (head_ ? divergence_.cost(1, count) : 0);
      for (size_t b = 0; !swaps_.empty() && b < swaps_.back().block; ++b) {
        total += window_cost(blocks()[b]) * static_cast<double>(count);
      }
      for (size_t begin = 0; begin < swaps_.size(); begin += pass_swaps_) {
        total += pass_cost(begin, std::min(begin + pass_swaps_, swaps_.size()), count);
      }
    }
    meter_.set_total(total);
  }

  double pass_cost(size_t begin, size_t end, int64_t count) const {
    double total = divergence_.cost(end - begin, count);
    for (size_t b = swaps_[begin].block; b < blocks().size(); ++b) {
      total += load_cost(blocks()[b]);
      const double run = window_cost(blocks()[b]) * static_cast<double>(count);
      for (size_t swap = begin; swap < end; ++swap) total += swaps_[swap].block <= b ? run : 0;
    }
    return total;
  }

  static double load_cost(const BlockGraph& block) { return kLoadCost * layer_cost(block, 1, 0); }
  double window_cost(const BlockGraph& block) const {
    return layer_cost(block, windows_.length, windows_.length);
  }

  static std::span<const EvaluatedModel> one(const EvaluatedModel& model) { return {&model, 1}; }
  LockstepOptions lockstep_options() const {
    return {.length = windows_.length, .precision = setup_.precision};
  }

  void run_group(int64_t number, int64_t groups) {
    WindowGroup group;
    group.first = number * group_windows_;
    group.count = std::min(group_windows_, windows_.count - group.first);
    const auto passes =
        static_cast<int64_t>((swaps_.size() + pass_swaps_ - 1) / pass_swaps_) * groups;
    const std::string name = "error by layer, ";
    {
      LockstepRunner forward(one(baseline_), lockstep_options(), pool_, meter_);
      std::vector<std::vector<float>> hidden;
      forward.run(windows_, group.first, group.count, name, hidden);
      group.end = std::move(hidden[0]);
    }
    if (head_) measure_head(group, name);
    if (swaps_.empty()) return;
    group.begin.resize(group.end.size());
    embed(group);
    int64_t pass = number * (passes / groups);
    for (size_t begin = 0; begin < swaps_.size(); begin += pass_swaps_) {
      run_pass(group, begin, std::min(begin + pass_swaps_, swaps_.size()),
               name + pass_prefix(++pass, passes));
    }
  }

  void embed(WindowGroup& group) {
    const TokenEmbedding embedding(baseline_.graph.embedding, *baseline_.source, setup_.precision);
    const auto length = static_cast<size_t>(windows_.length);
    for (int64_t i = 0; i < group.count; ++i) {
      const auto window = static_cast<size_t>(group.first + i);
      embedding.embed(std::span(windows_.ids).subspan(window * length, length), 0,
                      group.begin.data() + i * window_size());
    }
    embedding.release();
  }

  void measure_head(const WindowGroup& group, const std::string& prefix) {
    meter_.phase("evaluate", prefix + "output head");
    const HeadError error = divergence_.of_head(candidate_, group.end.data(), group.count);
    store(*head_, group, error.kl, error.logits);
  }

  // Runs the swaps [begin, end) to their divergences.
  void run_pass(WindowGroup& group, size_t begin, size_t end, const std::string& prefix) {
    std::vector<std::vector<float>> hidden;
    std::vector<std::vector<OutputError>> errors;
    for (size_t b = group.block; b < blocks().size(); ++b) {
      const BlockGraph& block = blocks()[b];
      meter_.phase("evaluate", prefix + "layer " + std::to_string(b + 1) + " of " +
                                   std::to_string(blocks().size()) + ", " + candidate_.name);
      meter_.check_cancelled();
      const BlockWeights weights = load_block(block, *baseline_.source, setup_.precision);
      meter_.advance(load_cost(block));
      const BlockRunner runner(block, weights, positions_, setup_.precision);
      run_through(runner, block, group.count, hidden);
      if (begin + hidden.size() < end && swaps_[begin + hidden.size()].block == b) {
        const BlockScales scales =
            block_scales(block, *baseline_.source, *candidate_.source, pool_);
        for (size_t swap = begin + hidden.size(); swap < end && swaps_[swap].block == b; ++swap) {
          hidden.push_back(group.begin);
          errors.push_back(run_swapped(runner, swaps_[swap], scales, group.count, hidden.back()));
        }
      }
      // The next swap, maybe of a later pass, may need the baseline further on.
      const size_t next = begin + hidden.size();
      if (group.block == b && next < swaps_.size() && swaps_[next].block > b) {
        std::vector<std::vector<float>> baseline;
        baseline.push_back(std::move(group.begin));
        run_through(runner, block, group.count, baseline);
        group.begin = std::move(baseline[0]);
        group.block = b + 1;
      }
    }
    meter_.phase("evaluate", prefix + "output head");
    std::vector<const float*> models;
    for (const std::vector<float>& states : hidden) models.push_back(states.data());
    const auto kl = divergence_.of(group.end.data(), models, group.count);
    for (size_t i = 0; i < hidden.size(); ++i) {
      store(swaps_[begin + i].result, group, kl[i], errors[i]);
    }
  }

  // All hidden states through an unchanged block.
  void run_through(const BlockRunner& runner, const BlockGraph& block, int64_t count,
                   std::vector<std::vector<float>>& hidden) {
    std::vector<float*> windows;
    for (std::vector<float>& states : hidden) {
      for (int64_t i = 0; i < count; ++i) windows.push_back(states.data() + i * window_size());
    }
    run_windows(runner, block, *baseline_.source, windows, {});
  }

  // Windows through a block whose experts are those of `source`.
  void run_windows(const BlockRunner& runner, const BlockGraph& block, const WeightSource& source,
                   std::span<float* const> windows, const std::function<RunHooks(int64_t)>& hooks) {
    const Segment whole{windows_.length, 0};
    std::vector<SequenceRun> sequences;
    for (float* states : windows) {
      sequences.push_back({.hidden = states, .segments = {&whole, 1}});
    }
    LayerCall call;
    call.sequences = sequences;
    call.workspaces = workspaces(block);
    call.precision = setup_.precision;
    call.hooks = hooks;
    call.for_each = [&](int64_t items, const std::function<void(int64_t, size_t)>& body) {
      for_each_window(pool_, meter_, items, window_cost(block), body);
    };
    if (block.experts) call.experts.load = expert_loader(block, source, setup_.precision);
    ClampCount clamps;
    run_layer(runner, call, pool_, clamps);
  }

  std::vector<OutputError> run_swapped(const BlockRunner& runner, const Swap& swap,
                                       const BlockScales& scales, int64_t count,
                                       std::vector<float>& hidden) {
    const BlockGraph& block = candidate_.graph.blocks[swap.block];
    const Op& op = block.ops[swap.op];
    const LinearSwap linear(load_linear(block, op, *candidate_.source, setup_.precision),
                            scales.input[swap.op], scales.output[swap.op], adapter_of(block, op));
    candidate_.source->release(block_tensors(block));
    std::vector<OutputError> errors(static_cast<size_t>(count));
    std::vector<float*> windows;
    for (int64_t i = 0; i < count; ++i) windows.push_back(hidden.data() + i * window_size());
    // One for each window: a window stays on one thread, in each of its two halves.
    std::vector<SwapScratch> scratch(static_cast<size_t>(count));
    const auto hooks = [&](int64_t window) {
      const auto w = static_cast<size_t>(window);
      return RunHooks{.observer = {},
                      .editor = [&, w](size_t index, int64_t rows, const float* x, float* y) {
                        if (index == swap.op) linear.replace(rows, x, y, scratch[w], errors[w]);
                      }};
    };
    try {
      run_windows(runner, block, *baseline_.source, windows, hooks);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kNonFinite) throw;
      throw Error(error.code(),
                  candidate_.source->path() + ": " + block.full_name(op) + ": " + error.what());
    }
    return errors;
  }

  // What the candidate keeps beside a linear.
  std::optional<LowRankAdapter> adapter_of(const BlockGraph& block, const Op& op) const {
    if (op.linear.adapter_rank == 0) return std::nullopt;
    const auto factor = [&](const std::string& ending) {
      const std::string name = block.full_name(op) + ending;
      return Linear::dense(candidate_.source->dense(name), name, {}, setup_.precision);
    };
    return LowRankAdapter{factor(kLoraASuffix), factor(kLoraBSuffix)};
  }

  void store(size_t result, const WindowGroup& group, std::span<const double> kl,
             std::span<const OutputError> errors) {
    for (size_t window = 0; window < kl.size(); ++window) {
      output_[result].add(errors[window]);
      if (!std::isfinite(kl[window]) || !std::isfinite(output_[result].noise)) {
        throw Error(ErrorCode::kNonFinite,
                    candidate_.source->path() + ": " + errors_[result].name +
                        ": NaN or infinity in window " +
                        std::to_string(group.first + static_cast<int64_t>(window)) +
                        " of the text when it alone is compressed; its weights or scales are "
                        "unusable");
      }
      kl_[result][static_cast<size_t>(group.first) + window] = kl[window];
    }
  }

  // Of the shape that ran last: nearly all models have one.
  std::vector<BlockWorkspace>& workspaces(const BlockGraph& block) {
    if (made_for_ == nullptr || !same_workspace(*made_for_, block)) {
      workspaces_.clear();  // before the new ones take memory
      workspaces_ =
          make_workspaces(pool_.size(), block, {.length = windows_.length}, setup_.precision);
      made_for_ = &block;
    }
    return workspaces_;
  }

  const EvaluatedModel& baseline_;
  const EvaluatedModel& candidate_;
  const TokenWindows& windows_;
  const LayerErrorSetup& setup_;
  ThreadPool& pool_;
  ProgressMeter& meter_;
  PositionTables positions_;
  SwapDivergence divergence_;
  const BlockGraph* made_for_ = nullptr;
  std::vector<BlockWorkspace> workspaces_;

  std::vector<Swap> swaps_;     // in the order of the graph
  std::optional<size_t> head_;  // index into the errors
  int64_t group_windows_ = 1;
  size_t pass_swaps_ = 1;

  std::vector<LayerError> errors_;
  std::vector<std::vector<double>> kl_;  // of each linear, the mean of each window
  std::vector<OutputError> output_;
};

}  // namespace

int64_t least_hidden_bytes(const EvaluatedModel& baseline, const TokenWindows& windows) {
  return (kBaselineStates + 1) * windows.length * baseline.graph.hidden_size *
         int64_t{sizeof(float)};
}

std::vector<LayerError> layer_errors(const EvaluatedModel& baseline,
                                     const EvaluatedModel& candidate, const TokenWindows& windows,
                                     const LayerErrorSetup& setup, ThreadPool& pool,
                                     ProgressMeter& meter) {
  require_same_layers(baseline, candidate);
  const int64_t least = least_hidden_bytes(baseline, windows);
  if (setup.hidden_bytes < least) {
    throw Error(ErrorCode::kLimitExceeded, "errors by layer need " + std::to_string(least) +
                                               " bytes for hidden states, the limit leaves " +
                                               std::to_string(setup.hidden_bytes) +
                                               ": raise it, or take shorter windows");
  }
  const EvaluatedModel same_order = in_order_of(candidate, baseline, pool);
  return Measurement(same_order, candidate, windows, setup, pool, meter).run();
}

}  // namespace pare
