#include "model/expert_runner.h"

#include <algorithm>
#include <optional>

#include "kernels/vector_math.h"

namespace pare {
namespace {

// An expert that is loaded, with the tokens that chose it.
struct Loaded {
  BlockGraph block;
  BlockWeights weights;
  const ExpertRows::Routed* routed = nullptr;
};

}  // namespace

void run_expert(const BlockRunner& expert, const ExpertRows& tokens, std::span<const int64_t> rows,
                BlockWorkspace& workspace, const RunHooks& hooks, std::vector<float>& out) {
  out.resize(rows.size() * static_cast<size_t>(tokens.width));
  auto end = out.begin();
  for (const int64_t row : rows) {
    const auto begin = tokens.input.begin() + row * tokens.width;
    end = std::copy(begin, begin + tokens.width, end);
  }
  const Segment all{static_cast<int64_t>(rows.size()), 0};
  expert.run({.hidden = out.data(), .segments = {&all, 1}}, workspace, hooks);
}

std::function<BlockWeights(int64_t)> expert_loader(const BlockGraph& block,
                                                   const WeightSource& source,
                                                   Precision precision) {
  return [&block, &source, precision](int64_t expert) {
    return load_block(expert_block(block, expert), source, precision);
  };
}

void add_expert(const BlockGraph& expert, const BlockWeights& weights,
                const ExpertRows::Routed& routed, Precision precision, ThreadPool& pool,
                ExpertRows& tokens, ClampCount& clamps) {
  PositionTables positions(1);
  const BlockRunner runner(expert, weights, positions, precision);
  std::vector<BlockWorkspace> workspaces =
      make_workspaces(pool.size(), expert, {.length = kChunkTokens}, precision);
  const auto width = static_cast<size_t>(tokens.width);
  const auto chunk = static_cast<size_t>(kChunkTokens);
  pool.parallel_for((routed.rows.size() + chunk - 1) / chunk, [&](size_t block, size_t worker) {
    const size_t first = block * chunk;
    const size_t count = std::min(chunk, routed.rows.size() - first);
    std::vector<float> out;
    run_expert(runner, tokens, {routed.rows.data() + first, count}, workspaces[worker], {}, out);
    for (size_t i = 0; i < count; ++i) {
      const auto row = static_cast<size_t>(routed.rows[first + i]);
      add_scaled({tokens.output.data() + row * width, width}, routed.weights[first + i],
                 {out.data() + i * width, width});
    }
  });
  for (BlockWorkspace& workspace : workspaces) clamps.add(workspace.take_clamps());
}

void run_experts(const BlockGraph& block, const ExpertPass& pass, Precision precision,
                 ThreadPool& pool, ExpertRows& tokens, ClampCount& clamps) {
  std::fill(tokens.output.begin(), tokens.output.end(), 0.0F);
  const int64_t count = block.experts->count;
  const std::vector<ExpertRows::Routed> routed = tokens.routed(count);
  const auto group = static_cast<int64_t>(pool.size());
  for (int64_t first = 0; first < count; first += group) {
    const int64_t size = std::min(group, count - first);
    std::vector<std::optional<Loaded>> loaded(static_cast<size_t>(size));
    pool.parallel_for(static_cast<size_t>(size), [&](size_t i, size_t) {
      const int64_t expert = first + static_cast<int64_t>(i);
      const ExpertRows::Routed& rows = routed[static_cast<size_t>(expert)];
      if (rows.rows.empty()) return;
      loaded[i].emplace(Loaded{expert_block(block, expert), pass.load(expert), &rows});
    });
    for (std::optional<Loaded>& expert : loaded) {
      if (expert) {
        add_expert(expert->block, expert->weights, *expert->routed, precision, pool, tokens,
                   clamps);
      }
      expert.reset();
    }
    if (pass.progress) pass.progress(static_cast<double>(size) / static_cast<double>(count));
  }
}

}  // namespace pare
