#include "pipeline/calibration_run.h"

#include <algorithm>

#include "kernels/vector_math.h"
#include "model/expert_runner.h"
#include "model/input_groups.h"
#include "model/token_embedding.h"
#include "pipeline/job_plan.h"

namespace pare {
namespace {

// An expert that fewer tokens chose gets others of its layer as well: a Gram matrix of fewer tokens
// than it has channels leaves directions where an error costs nothing.
int64_t fewest_expert_tokens(const BlockGraph& expert, bool gram) {
  int64_t fewest = 256;
  if (!gram) return fewest;
  for (const InputGroup& group : input_groups(expert)) {
    fewest = std::max(fewest, group.in_features);
  }
  return fewest;
}

std::vector<int64_t> evenly(int64_t count, int64_t wanted) {
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < wanted; ++i) rows.push_back(i * count / wanted);
  return rows;
}

}  // namespace

CalibrationRun::CalibrationRun(const ModelGraph& graph, const WeightSource& source,
                               const TokenWindows& windows, const JobPlan& plan, ThreadPool& pool,
                               ProgressMeter& meter)
    : graph_(graph),
      source_(source),
      windows_(windows),
      options_(plan.options),
      needs_gram_(plan.needs_gram),
      pool_(pool),
      meter_(meter),
      batch_(batch_windows(plan.options, static_cast<int64_t>(pool.size()))),
      positions_(std::max(windows.length, windows.sources.longest())) {
  if (plan.needs_original) original_.emplace();
}

void CalibrationRun::set_segments(Stack stack) {
  segments_.clear();
  begin_ = {0};
  for (int64_t i = 0; i < windows_.count; ++i) {
    const int64_t rows =
        stack == Stack::kEncoder ? windows_.sources.length(i) : windows_.tokens_of(i);
    segments_.push_back({rows, 0});
    begin_.push_back(begin_.back() + rows);
  }
}

void CalibrationRun::embed(const EmbeddingSpec& spec, std::span<const int32_t> ids, int64_t width) {
  const TokenEmbedding embedding(spec, source_, Precision::kBf16);
  width_ = width;
  std::vector<float>& hidden = tokens_.hidden;
  hidden.assign(ids.size() * static_cast<size_t>(width), 0.0F);
  pool_.parallel_for(segments_.size(), [&](size_t i, size_t) {
    embedding.embed(
        ids.subspan(static_cast<size_t>(begin_[i]), static_cast<size_t>(segments_[i].rows)), 0,
        hidden.data() + begin_[i] * width);
  });
  embedding.release();
  if (original_) original_->hidden = hidden;
}

void CalibrationRun::start(Stack stack) {
  if (stack == Stack::kDecoder && graph_.encoder) {
    const BlockGraph& tail = graph_.encoder->tail;
    const BlockWeights weights = load_block(tail, source_, Precision::kBf16);
    pass(tail, weights);
    advance(tail, weights);
    tokens_.memory = std::move(tokens_.hidden);
    if (original_) original_->memory = std::move(original_->hidden);
  }
  set_segments(stack);
  if (stack == Stack::kEncoder) {
    const BlockGraph& tail = graph_.encoder->tail;
    return embed(graph_.encoder->embedding, windows_.sources.ids, tail.width(tail.output));
  }
  std::vector<int32_t> ids;  // without padding
  for (int64_t i = 0; i < windows_.count; ++i) {
    const auto at = windows_.ids.begin() + i * windows_.length;
    ids.insert(ids.end(), at, at + windows_.tokens_of(i));
  }
  embed(graph_.embedding, ids, graph_.hidden_size);
}

std::vector<SequenceRun> CalibrationRun::runs(int64_t first, int64_t count, Tokens& tokens) const {
  return runs(first, count, tokens.hidden.data() + begin_[static_cast<size_t>(first)] * width_,
              tokens.memory);
}

std::vector<SequenceRun> CalibrationRun::runs(int64_t first, int64_t count, float* hidden,
                                              const std::vector<float>& memory) const {
  std::vector<SequenceRun> sequences;
  const int64_t start = begin_[static_cast<size_t>(first)];
  for (int64_t i = first; i < first + count; ++i) {
    const auto index = static_cast<size_t>(i);
    SequenceRun& run = sequences.emplace_back();
    run.hidden = hidden + (begin_[index] - start) * width_;
    run.segments = {&segments_[index], 1};
    if (memory.empty()) continue;
    const BlockGraph& tail = graph_.encoder->tail;
    run.memory = memory.data() + windows_.sources.begin[index] * tail.width(tail.output);
    run.memory_rows = windows_.sources.length(i);
  }
  return sequences;
}

std::vector<BlockWorkspace> CalibrationRun::workspaces(const BlockGraph& block) const {
  const WorkspaceSize size{.length = positions_.positions(),
                           .memory_length = windows_.sources.longest()};
  return make_workspaces(pool_.size(), block, size, Precision::kBf16);
}

void CalibrationRun::run_batch(const BlockRunner& runner, std::vector<SequenceRun> batch,
                               int64_t first, ExpertRows& experts,
                               std::vector<BlockWorkspace>& scratch,
                               const std::function<InputObserver(int64_t)>& observer) {
  pool_.parallel_for(batch.size(), [&](size_t i, size_t worker) {
    batch[i].experts = &experts;
    batch[i].first_row = begin_[static_cast<size_t>(first) + i];
    RunHooks hooks;
    if (observer) hooks.observer = observer(static_cast<int64_t>(i));
    runner.run(batch[i], scratch[worker], hooks);
  });
}

void CalibrationRun::finish_all(const BlockRunner& runner, Tokens& tokens, ExpertRows& experts,
                                std::vector<BlockWorkspace>& scratch) {
  std::vector<SequenceRun> all = runs(0, sequences(), tokens);
  pool_.parallel_for(all.size(), [&](size_t i, size_t worker) {
    all[i].experts = &experts;
    all[i].first_row = begin_[i];
    runner.finish(all[i], scratch[worker], {});
  });
}

void CalibrationRun::finish_original(const BlockRunner& runner, ExpertRows& experts,
                                     std::vector<BlockWorkspace>& scratch) {
  if (!runner.has_experts()) return;
  ClampCount clamps;
  run_experts(runner.block(),
              {.load = expert_loader(runner.block(), source_, Precision::kBf16),
               .progress = [&](double) { meter_.check_cancelled(); }},
              Precision::kBf16, pool_, experts, clamps);
  finish_all(runner, *original_, experts, scratch);
}

void CalibrationRun::pass(const BlockGraph& block, const BlockWeights& original) {
  if (!original_) return;
  std::vector<BlockWorkspace> scratch = workspaces(block);
  const BlockRunner runner(block, original, positions_, Precision::kBf16);
  ExpertRows experts(block, begin_.back());
  for (int64_t first = 0; first < sequences(); first += batch_) {
    const int64_t count = std::min(batch_, sequences() - first);
    run_batch(runner, runs(first, count, *original_), first, experts, scratch, {});
    meter_.check_cancelled();
  }
  finish_original(runner, experts, scratch);
}

std::map<int, InputStatistics> CalibrationRun::observe(const BlockGraph& block,
                                                       const BlockWeights& original,
                                                       std::vector<WatchedValue> watched) {
  for (WatchedValue& value : watched) {
    value.tokens = value.value == block.memory ? source_tokens() : begin_.back();
    value.mismatch = original_.has_value() && value.gram;
  }
  StatisticsCollector collector(watched, pool_);
  std::vector<BlockWorkspace> scratch = workspaces(block);
  const BlockRunner runner(block, original, positions_, Precision::kBf16);
  original_tokens_.emplace(block, begin_.back());
  ExpertRows of_original(block, original_ ? begin_.back() : 0);
  std::vector<float> copy;
  for (int64_t first = 0; first < sequences(); first += batch_) {
    const int64_t count = std::min(batch_, sequences() - first);
    const auto from = tokens_.hidden.begin() + begin_[static_cast<size_t>(first)] * width_;
    copy.assign(from, from + rows_of(first, count) * width_);
    collector.begin_batch(count);
    if (original_) {
      run_batch(runner, runs(first, count, *original_), first, of_original, scratch,
                [&](int64_t i) { return collector.original_observer(i); });
    }
    run_batch(runner, runs(first, count, copy.data(), tokens_.memory), first, *original_tokens_,
              scratch, [&](int64_t i) { return collector.observer(i); });
    collector.end_batch();
    meter_.advance(static_cast<double>(count));
    meter_.check_cancelled();
  }
  if (original_) finish_original(runner, of_original, scratch);
  if (block.experts) routed_ = original_tokens_->routed(block.experts->count);
  std::map<int, InputStatistics> statistics;
  for (const WatchedValue& value : watched) {
    statistics[value.value] = collector.take(value.value);
  }
  return statistics;
}

void CalibrationRun::look_through(const BlockGraph& block, const BlockWeights& weights,
                                  const std::function<CacheObserver(int64_t)>& observer) {
  std::vector<BlockWorkspace> scratch = workspaces(block);
  const BlockRunner runner(block, weights, positions_, Precision::kBf16);
  std::vector<float> copy;
  for (int64_t first = 0; first < sequences(); first += batch_) {
    const int64_t count = std::min(batch_, sequences() - first);
    const auto from = tokens_.hidden.begin() + begin_[static_cast<size_t>(first)] * width_;
    copy.assign(from, from + rows_of(first, count) * width_);
    const std::vector<SequenceRun> batch = runs(first, count, copy.data(), tokens_.memory);
    pool_.parallel_for(batch.size(), [&](size_t i, size_t worker) {
      RunHooks hooks;
      hooks.cache = observer(first + static_cast<int64_t>(i));
      runner.run(batch[i], scratch[worker], hooks);
    });
    meter_.check_cancelled();
  }
}

// The tokens that an expert is calibrated on, ascending.
std::vector<int64_t> CalibrationRun::expert_rows(const BlockGraph& graph, int64_t expert,
                                                 ExpertTokens& tokens) const {
  const int64_t all = begin_.back();
  std::vector<int64_t> rows = routed_[static_cast<size_t>(expert)].rows;
  tokens.routed = static_cast<int64_t>(rows.size());
  const int64_t wanted =
      options_.moe_calib == "all" ? all : std::min(all, fewest_expert_tokens(graph, needs_gram_));
  if (tokens.routed >= wanted) return rows;
  std::vector<int64_t> others;
  for (int64_t row = 0; row < all; ++row) {
    if (!std::binary_search(rows.begin(), rows.end(), row)) others.push_back(row);
  }
  tokens.added = wanted - tokens.routed;
  for (const int64_t i : evenly(static_cast<int64_t>(others.size()), tokens.added)) {
    rows.push_back(others[static_cast<size_t>(i)]);
  }
  std::sort(rows.begin(), rows.end());
  return rows;
}

std::map<int, InputStatistics> CalibrationRun::observe_expert(const BlockGraph& block,
                                                              int64_t expert,
                                                              const BlockWeights& original,
                                                              std::vector<WatchedValue> watched,
                                                              ExpertTokens& tokens) {
  const BlockGraph graph = expert_block(block, expert);
  const std::vector<int64_t> rows = expert_rows(graph, expert, tokens);
  for (WatchedValue& value : watched) value.tokens = static_cast<int64_t>(rows.size());
  StatisticsCollector collector(watched, pool_);
  PositionTables none(1);
  const BlockRunner runner(graph, original, none, Precision::kBf16);
  std::vector<BlockWorkspace> scratch =
      make_workspaces(pool_.size(), graph, {.length = kChunkTokens}, Precision::kBf16);
  std::vector<std::vector<float>> out(pool_.size());
  const auto chunk = static_cast<size_t>(kChunkTokens);
  const auto step = static_cast<size_t>(kExpertBatchTokens);
  for (size_t first = 0; first < rows.size(); first += step) {
    const size_t count = std::min(step, rows.size() - first);
    const size_t chunks = (count + chunk - 1) / chunk;
    collector.begin_batch(static_cast<int64_t>(chunks));
    pool_.parallel_for(chunks, [&](size_t i, size_t worker) {
      const size_t begin = first + i * chunk;
      const RunHooks hooks{.observer = collector.observer(static_cast<int64_t>(i)), .editor = {}};
      run_expert(runner, *original_tokens_,
                 {rows.data() + begin, std::min(chunk, rows.size() - begin)}, scratch[worker],
                 hooks, out[worker]);
    });
    collector.end_batch();
    meter_.check_cancelled();
  }
  std::map<int, InputStatistics> statistics;
  for (const WatchedValue& value : watched) {
    statistics[value.value] = collector.take(value.value);
  }
  return statistics;
}

void CalibrationRun::advance(const BlockGraph& block, const BlockWeights& compressed) {
  std::vector<BlockWorkspace> scratch = workspaces(block);
  const BlockRunner runner(block, compressed, positions_, Precision::kBf16);
  compressed_tokens_.emplace(block, begin_.back());
  for (int64_t first = 0; first < sequences(); first += batch_) {
    const int64_t count = std::min(batch_, sequences() - first);
    run_batch(runner, runs(first, count, tokens_), first, *compressed_tokens_, scratch, {});
    meter_.advance(static_cast<double>(count));
    meter_.check_cancelled();
  }
  if (block.experts) advanced_ = compressed_tokens_->routed(block.experts->count);
}

void CalibrationRun::advance_expert(const BlockGraph& block, int64_t expert,
                                    const BlockWeights& compressed) {
  const BlockGraph graph = expert_block(block, expert);
  ClampCount clamps;
  add_expert(graph, compressed, advanced_[static_cast<size_t>(expert)], Precision::kBf16, pool_,
             *compressed_tokens_, clamps);
}

void CalibrationRun::finish(const BlockGraph& block, const BlockWeights& compressed) {
  std::vector<BlockWorkspace> scratch = workspaces(block);
  const BlockRunner runner(block, compressed, positions_, Precision::kBf16);
  finish_all(runner, tokens_, *compressed_tokens_, scratch);
  original_tokens_.reset();
  compressed_tokens_.reset();
}

}  // namespace pare
