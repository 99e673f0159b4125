#include "eval/lockstep.h"

#include <algorithm>

#include "eval/block_shape.h"
#include "model/model_head.h"
#include "pare/error.h"

namespace pare {
namespace {

// Reading and packing a parameter costs about as much as so many multiplications.
constexpr double kLoadCost = 100;

// Multiplications of a batch on one thread: a fraction of a second in BF16, a few in FP32.
constexpr double kBatchCost = 3e10;
constexpr double kFewestWindows = 2;

int64_t parameters(const BlockGraph& block) {
  int64_t total = 0;
  for (const Op& op : block.ops) {
    if (op.kind == OpKind::kLinear) total += block.out_features(op) * block.in_features(op);
  }
  return total;
}

double load_cost(const BlockGraph& block) {
  return kLoadCost * static_cast<double>(parameters(block));
}

size_t deepest(std::span<const EvaluatedModel> models) {
  size_t layers = 0;
  for (const EvaluatedModel& model : models) layers = std::max(layers, model.graph.blocks.size());
  return layers;
}

}  // namespace

double layer_cost(const BlockGraph& block, int64_t tokens, int64_t length) {
  // On average a token attends to half of the window: scores and values.
  const auto attention = static_cast<double>(block.attention.heads * block.attention.head_dim) *
                         static_cast<double>(length);
  return static_cast<double>(tokens) * (static_cast<double>(parameters(block)) + attention);
}

void for_each_window(ThreadPool& pool, ProgressMeter& meter, int64_t windows, double cost,
                     const std::function<void(int64_t window, size_t worker)>& body) {
  const double each = std::max(kFewestWindows, kBatchCost / std::max(cost, 1.0));
  const auto batch = static_cast<int64_t>(
      std::min(each * static_cast<double>(pool.size()), static_cast<double>(windows)));
  for (int64_t first = 0; first < windows; first += batch) {
    meter.check_cancelled();
    const int64_t count = std::min(batch, windows - first);
    pool.parallel_for(static_cast<size_t>(count), [&](size_t block, size_t worker) {
      body(first + static_cast<int64_t>(block), worker);
    });
    meter.advance(cost * static_cast<double>(count));
  }
}

void for_each_layer(std::span<const EvaluatedModel> models, ProgressMeter& meter,
                    const std::string& prefix, const LayerSteps& steps,
                    const std::function<void(size_t model, const BlockGraph& block)>& body) {
  for (size_t layer = steps.first; layer < deepest(models); ++layer) {
    for (size_t m = 0; m < models.size(); ++m) {
      const EvaluatedModel& model = models[m];
      if (layer >= model.graph.blocks.size() || steps.skips(m, layer)) continue;
      const BlockGraph& block = model.graph.blocks[layer];
      meter.phase("evaluate", prefix + "layer " + std::to_string(layer + 1) + " of " +
                                  std::to_string(model.graph.blocks.size()) + ", " + model.name);
      meter.check_cancelled();
      try {
        body(m, block);
      } catch (const Error& error) {
        if (error.code() != ErrorCode::kNonFinite) throw;
        throw Error(error.code(), model.source->path() + ": " + block.prefix + ": " + error.what());
      }
    }
    if (steps.after) steps.after(layer);
  }
}

std::string pass_prefix(int64_t pass, int64_t passes) {
  if (passes == 1) return "";
  return "pass " + std::to_string(pass) + " of " + std::to_string(passes) + ", ";
}

LockstepRunner::LockstepRunner(std::span<const EvaluatedModel> models,
                               const LockstepOptions& options, ThreadPool& pool,
                               ProgressMeter& meter)
    : models_(models),
      options_(options),
      pool_(pool),
      meter_(meter),
      rotary_(options.length),
      clamps_(models.size()) {}

void LockstepRunner::run(std::span<const int32_t> ids, const std::string& prefix,
                         std::vector<std::vector<float>>& hidden, const LayerSteps& steps) {
  embed(ids, steps, hidden);
  const auto windows = static_cast<int64_t>(ids.size()) / options_.length;
  for (size_t m = 0; m < models_.size(); ++m) {
    const std::vector<BlockGraph>& blocks = models_[m].graph.blocks;
    for (size_t layer = 0; layer < blocks.size(); ++layer) {
      if (steps.skips(m, layer)) meter_.advance(cost_of_layer(blocks[layer], windows));
    }
  }
  for_each_layer(models_, meter_, prefix, steps, [&](size_t m, const BlockGraph& block) {
    run_layer(m, block, windows, hidden[m].data());
  });
}

double LockstepRunner::cost_of_layer(const BlockGraph& block, int64_t windows) const {
  return load_cost(block) + layer_cost(block, windows * options_.length, options_.length);
}

double LockstepRunner::cost(int64_t windows) const {
  double total = 0;
  for (const EvaluatedModel& model : models_) {
    for (const BlockGraph& block : model.graph.blocks) total += cost_of_layer(block, windows);
  }
  return total;
}

void LockstepRunner::embed(std::span<const int32_t> ids, const LayerSteps& steps,
                           std::vector<std::vector<float>>& hidden) {
  const auto length = static_cast<size_t>(options_.length);
  hidden.resize(models_.size());
  for (size_t m = 0; m < models_.size(); ++m) {
    if (steps.first > 0 || steps.skips(m, 0)) continue;
    const EvaluatedModel& model = models_[m];
    const auto width = static_cast<size_t>(model.graph.hidden_size);
    hidden[m].resize(ids.size() * width);
    pool_.parallel_for(ids.size() / length, [&](size_t window, size_t) {
      embed_tokens(model.graph, *model.source, ids.subspan(window * length, length),
                   hidden[m].data() + window * length * width);
    });
    model.source->release({model.graph.embedding});
  }
}

void LockstepRunner::run_layer(size_t m, const BlockGraph& block, int64_t windows, float* hidden) {
  const EvaluatedModel& model = models_[m];
  const BlockWeights weights = load_block(block, *model.source, options_.precision);
  meter_.advance(load_cost(block));
  const BlockRunner runner(block, weights, rotary_.of(block.rotary), options_.precision);
  std::vector<BlockWorkspace>& scratch = workspaces(block);
  const int64_t stride = options_.length * model.graph.hidden_size;
  for_each_window(pool_, meter_, windows, layer_cost(block, options_.length, options_.length),
                  [&](int64_t window, size_t worker) {
                    runner.run(hidden + window * stride, options_.length, scratch[worker], {});
                  });
  for (BlockWorkspace& workspace : scratch) clamps_[m].add(workspace.take_clamps());
}

std::vector<BlockWorkspace>& LockstepRunner::workspaces(const BlockGraph& block) {
  for (const auto& known : workspaces_) {
    if (same_workspace(*known->made_for, block)) return known->of_worker;
  }
  auto made = std::make_unique<Workspaces>();
  made->made_for = &block;
  for (size_t worker = 0; worker < pool_.size(); ++worker) {
    made->of_worker.emplace_back(block, options_.length, options_.precision);
  }
  workspaces_.push_back(std::move(made));
  return workspaces_.back()->of_worker;
}

}  // namespace pare
