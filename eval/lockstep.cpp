#include "eval/lockstep.h"

#include <algorithm>

#include "eval/block_shape.h"
#include "model/layer_runner.h"
#include "model/token_embedding.h"
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
  if (block.experts) total += block.experts->count * parameters(*block.experts->expert);
  return total;
}

// Those that a token meets.
int64_t active_parameters(const BlockGraph& block) {
  if (!block.experts) return parameters(block);
  return parameters(block) -
         (block.experts->count - block.experts->chosen) * parameters(*block.experts->expert);
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
  int64_t attention = 0;
  for (const AttentionSpec& spec : block.attentions) {
    attention += spec.shape.heads * spec.shape.head_dim;
  }
  return static_cast<double>(tokens) *
         (static_cast<double>(active_parameters(block)) + static_cast<double>(attention * length));
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

void name_layer(const EvaluatedModel& model, const BlockGraph& block,
                const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kNonFinite) throw;
    throw Error(error.code(), model.source->path() + ": " + block.prefix + ": " + error.what());
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
      name_layer(model, block, [&] { body(m, block); });
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
      positions_(std::max(options.length, options.source_length)),
      memory_(models.size()),
      clamps_(models.size()) {}

void LockstepRunner::run(const TokenWindows& windows, int64_t first, int64_t count,
                         const std::string& prefix, std::vector<std::vector<float>>& hidden,
                         const LayerSteps& steps) {
  const Batch batch{windows, first, count};
  embed(batch, steps, hidden);
  encode(batch, prefix);
  for (size_t m = 0; m < models_.size(); ++m) {
    const std::vector<BlockGraph>& blocks = models_[m].graph.blocks;
    for (size_t layer = 0; layer < blocks.size(); ++layer) {
      if (steps.skips(m, layer)) meter_.advance(cost_of_layer(blocks[layer], count));
    }
  }
  for_each_layer(models_, meter_, prefix, steps, [&](size_t m, const BlockGraph& block) {
    Rows rows = target_rows(batch, m, hidden[m].data());
    run_layer(m, block, rows);
  });
}

double LockstepRunner::cost_of_layer(const BlockGraph& block, int64_t windows) const {
  return load_cost(block) + layer_cost(block, windows * options_.length, options_.length);
}

double LockstepRunner::cost(int64_t windows) const {
  double total = 0;
  for (const EvaluatedModel& model : models_) {
    for (const BlockGraph& block : model.graph.blocks) total += cost_of_layer(block, windows);
    if (!model.graph.encoder) continue;
    const EncoderGraph& encoder = *model.graph.encoder;
    for (const BlockGraph& block : encoder.blocks) total += cost_of_layer(block, windows);
    total += cost_of_layer(encoder.tail, windows);
  }
  return total;
}

void LockstepRunner::embed(const Batch& batch, const LayerSteps& steps,
                           std::vector<std::vector<float>>& hidden) {
  const auto length = static_cast<size_t>(options_.length);
  const auto count = static_cast<size_t>(batch.count);
  hidden.resize(models_.size());
  for (size_t m = 0; m < models_.size(); ++m) {
    if (steps.first > 0 || steps.skips(m, 0)) continue;
    const EvaluatedModel& model = models_[m];
    const auto width = static_cast<size_t>(model.graph.hidden_size);
    hidden[m].resize(count * length * width);
    const TokenEmbedding embedding(model.graph.embedding, *model.source, options_.precision);
    const std::span<const int32_t> ids(batch.windows.ids);
    pool_.parallel_for(count, [&](size_t window, size_t) {
      const int64_t number = batch.first + static_cast<int64_t>(window);
      embedding.embed(ids.subspan(static_cast<size_t>(number) * length,
                                  static_cast<size_t>(batch.windows.tokens_of(number))),
                      0, hidden[m].data() + window * length * width);
    });
    embedding.release();
  }
}

void LockstepRunner::encode(const Batch& batch, const std::string& prefix) {
  const SourceTokens& sources = batch.windows.sources;
  for (size_t m = 0; m < models_.size(); ++m) {
    if (!models_[m].graph.encoder) continue;
    const EvaluatedModel& model = models_[m];
    const EncoderGraph& encoder = *model.graph.encoder;
    const int64_t width = encoder.tail.width(encoder.tail.output);
    const int64_t begin = sources.begin[static_cast<size_t>(batch.first)];
    const int64_t end = sources.begin[static_cast<size_t>(batch.first + batch.count)];
    memory_[m].resize(static_cast<size_t>((end - begin) * width));
    const TokenEmbedding embedding(encoder.embedding, *model.source, options_.precision);
    pool_.parallel_for(static_cast<size_t>(batch.count), [&](size_t i, size_t) {
      const auto window = static_cast<size_t>(batch.first) + i;
      const auto at = static_cast<size_t>(sources.begin[window]);
      const auto length = static_cast<size_t>(sources.begin[window + 1]) - at;
      embedding.embed(std::span<const int32_t>(sources.ids).subspan(at, length), 0,
                      memory_[m].data() + (sources.begin[window] - begin) * width);
    });
    embedding.release();
    for (size_t layer = 0; layer < encoder.blocks.size(); ++layer) {
      meter_.phase("evaluate", prefix + "encoder layer " + std::to_string(layer + 1) + " of " +
                                   std::to_string(encoder.blocks.size()) + ", " + model.name);
      meter_.check_cancelled();
      Rows rows = source_rows(batch, width, memory_[m].data());
      name_layer(model, encoder.blocks[layer], [&] { run_layer(m, encoder.blocks[layer], rows); });
    }
    Rows rows = source_rows(batch, width, memory_[m].data());
    run_layer(m, encoder.tail, rows);
  }
}

LockstepRunner::Rows LockstepRunner::target_rows(const Batch& batch, size_t m,
                                                 float* hidden) const {
  const ModelGraph& graph = models_[m].graph;
  const SourceTokens& sources = batch.windows.sources;
  Rows rows;
  rows.hidden = hidden;
  rows.segments.reserve(static_cast<size_t>(batch.count));
  for (int64_t i = 0; i < batch.count; ++i) {
    const int64_t window = batch.first + i;
    rows.segments.push_back({batch.windows.tokens_of(window), 0});
    SequenceRun& run = rows.sequences.emplace_back();
    run.hidden = hidden + i * options_.length * graph.hidden_size;
    run.segments = {&rows.segments.back(), 1};
    if (!graph.encoder) continue;
    const int64_t width = graph.encoder->tail.width(graph.encoder->tail.output);
    const int64_t begin = sources.begin[static_cast<size_t>(batch.first)];
    run.memory = memory_[m].data() + (sources.begin[static_cast<size_t>(window)] - begin) * width;
    run.memory_rows = sources.length(window);
  }
  return rows;
}

LockstepRunner::Rows LockstepRunner::source_rows(const Batch& batch, int64_t width,
                                                 float* hidden) const {
  const SourceTokens& sources = batch.windows.sources;
  Rows rows;
  rows.hidden = hidden;
  rows.segments.reserve(static_cast<size_t>(batch.count));
  for (int64_t i = 0; i < batch.count; ++i) {
    rows.segments.push_back({sources.length(batch.first + i), 0});
    SequenceRun& run = rows.sequences.emplace_back();
    run.hidden = hidden;
    run.segments = {&rows.segments.back(), 1};
    hidden += rows.segments.back().rows * width;
  }
  return rows;
}

void LockstepRunner::run_layer(size_t m, const BlockGraph& block, Rows& rows) {
  const EvaluatedModel& model = models_[m];
  const BlockWeights weights = load_block(block, *model.source, options_.precision);
  meter_.advance(load_cost(block));
  const BlockRunner runner(block, weights, positions_, options_.precision);
  std::vector<BlockWorkspace>& scratch = workspaces(block);
  LayerCall call;
  call.sequences = rows.sequences;
  call.workspaces = scratch;
  call.precision = options_.precision;
  call.for_each = [&](int64_t count, const std::function<void(int64_t, size_t)>& body) {
    for_each_window(pool_, meter_, count, layer_cost(block, options_.length, options_.length),
                    body);
  };
  if (block.experts) {
    call.experts.load = expert_loader(block, *model.source, options_.precision);
    call.experts.progress = [&](double) { meter_.check_cancelled(); };
  }
  pare::run_layer(runner, call, pool_, clamps_[m]);
  for (BlockWorkspace& workspace : scratch) clamps_[m].add(workspace.take_clamps());
}

std::vector<BlockWorkspace>& LockstepRunner::workspaces(const BlockGraph& block) {
  for (const auto& known : workspaces_) {
    if (same_workspace(*known->made_for, block)) return known->of_worker;
  }
  auto made = std::make_unique<Workspaces>();
  made->made_for = &block;
  const WorkspaceSize size{.length = positions_.positions(),
                           .memory_length = options_.source_length};
  made->of_worker = make_workspaces(pool_.size(), block, size, options_.precision);
  workspaces_.push_back(std::move(made));
  return workspaces_.back()->of_worker;
}

}  // namespace pare
