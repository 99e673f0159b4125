#include "eval/prompt_runner.h"

#include <algorithm>
#include <optional>

#include "model/expert_runner.h"
#include "model/token_embedding.h"

namespace pare {
namespace {

int64_t rows_of(const PromptUnit& unit) { return static_cast<int64_t>(unit.ids.size()); }

}  // namespace

// The stems and units of one run, and where their rows begin.
struct PromptRunner::Batch {
  size_t first_unit = 0;
  std::vector<size_t> stems;         // those that the units use
  std::vector<int64_t> stem_begin;   // rows, one more than stems
  std::vector<size_t> stem_of_unit;  // index into stems
  std::vector<int64_t> unit_begin;   // rows, one more than units
  int64_t longest_unit = 0;
  PositionTables positions;

  Batch(const PromptPlan& plan, size_t first, size_t count)
      : first_unit(first), positions(plan.longest) {
    stem_begin.push_back(0);
    unit_begin.push_back(0);
    for (size_t u = first; u < first + count; ++u) {
      const PromptUnit& unit = plan.units[u];
      const auto known = std::find(stems.begin(), stems.end(), unit.stem);
      stem_of_unit.push_back(static_cast<size_t>(known - stems.begin()));
      if (known == stems.end()) {
        stems.push_back(unit.stem);
        stem_begin.push_back(stem_begin.back() +
                             static_cast<int64_t>(plan.stems[unit.stem].size()));
      }
      unit_begin.push_back(unit_begin.back() + rows_of(unit));
      longest_unit = std::max(longest_unit, rows_of(unit));
    }
  }
};

void PromptRunner::embed(const PromptPlan& plan, const Batch& batch, PromptStates& hidden) {
  for (size_t m = 0; m < models_.size(); ++m) {
    const EvaluatedModel& model = models_[m];
    const int64_t width = model.graph.hidden_size;
    hidden.stems[m].resize(static_cast<size_t>(batch.stem_begin.back() * width));
    hidden.units[m].resize(static_cast<size_t>(batch.unit_begin.back() * width));
    const TokenEmbedding embedding(model.graph.embedding, *model.source, precision_);
    for (size_t s = 0; s < batch.stems.size(); ++s) {
      embedding.embed(plan.stems[batch.stems[s]], 0,
                      hidden.stems[m].data() + batch.stem_begin[s] * width);
    }
    pool_.parallel_for(batch.stem_of_unit.size(), [&](size_t u, size_t) {
      const PromptUnit& unit = plan.units[batch.first_unit + u];
      std::span<const int32_t> ids(unit.ids);
      float* rows = hidden.units[m].data() + batch.unit_begin[u] * width;
      for (const Segment& segment : unit.segments) {
        const auto count = static_cast<size_t>(segment.rows);
        embedding.embed(ids.first(count), segment.position, rows);
        ids = ids.subspan(count);
        rows += segment.rows * width;
      }
    });
    embedding.release();
  }
}

void PromptRunner::run(const PromptPlan& plan, size_t first, size_t count,
                       const std::string& prefix, PromptStates& hidden, const LayerSteps& steps) {
  Batch batch(plan, first, count);
  hidden.stems.resize(models_.size());
  hidden.units.resize(models_.size());
  if (steps.first == 0) embed(plan, batch, hidden);
  const int64_t rows = batch.stem_begin.back() + batch.unit_begin.back();
  for (size_t m = 0; m < models_.size(); ++m) {
    const std::vector<BlockGraph>& blocks = models_[m].graph.blocks;
    for (size_t layer = 0; layer < std::min(steps.first, blocks.size()); ++layer) {
      meter_.advance(layer_cost(blocks[layer], rows, plan.longest));
    }
  }
  for_each_layer(models_, meter_, prefix, steps, [&](size_t m, const BlockGraph& block) {
    run_layer(m, block, plan, batch, hidden.stems[m], hidden.units[m]);
  });
}

void PromptRunner::run_layer(size_t m, const BlockGraph& block, const PromptPlan& plan,
                             Batch& batch, std::vector<float>& stem_hidden,
                             std::vector<float>& hidden) {
  const EvaluatedModel& model = models_[m];
  const int64_t width = model.graph.hidden_size;
  const BlockWeights weights = load_block(block, *model.source, precision_);
  const BlockRunner runner(block, weights, batch.positions, precision_);
  std::vector<BlockWorkspace> scratch = make_workspaces(
      pool_.size(), block,
      {.length = plan.longest, .rows = std::max(plan.longest, batch.longest_unit)}, precision_);
  const size_t stems = batch.stems.size();
  const size_t units = batch.stem_of_unit.size();
  // Stems first, then units: where there are experts, they run over the tokens of all.
  std::vector<Segment> whole;
  whole.reserve(stems);
  std::vector<SequenceRun> sequences;
  ExpertRows tokens(block, batch.stem_begin.back() + batch.unit_begin.back());
  for (size_t s = 0; s < stems; ++s) {
    whole.push_back({batch.stem_begin[s + 1] - batch.stem_begin[s], 0});
    sequences.push_back({.hidden = stem_hidden.data() + batch.stem_begin[s] * width,
                         .segments = {&whole.back(), 1},
                         .experts = &tokens,
                         .first_row = batch.stem_begin[s]});
  }
  for (size_t u = 0; u < units; ++u) {
    sequences.push_back({.hidden = hidden.data() + batch.unit_begin[u] * width,
                         .segments = plan.units[batch.first_unit + u].segments,
                         .experts = &tokens,
                         .first_row = batch.stem_begin.back() + batch.unit_begin[u]});
  }
  std::vector<std::optional<SequenceState>> states(stems);
  // What a worker's state holds the beginning of; units of one stem follow each other.
  constexpr size_t kNothing = ~size_t{0};
  std::vector<size_t> loaded(pool_.size(), kNothing);
  const auto rows_cost = [&](int64_t rows) { return layer_cost(block, rows, plan.longest); };
  for_each_window(
      pool_, meter_, static_cast<int64_t>(stems),
      rows_cost(batch.stem_begin.back()) / static_cast<double>(std::max<size_t>(1, stems)),
      [&](int64_t index, size_t worker) {
        const auto s = static_cast<size_t>(index);
        scratch[worker].state().clear();
        runner.run(sequences[s], scratch[worker], {});
        states[s].emplace(block, std::max<int64_t>(1, whole[s].rows), 1, precision_);
        states[s]->copy_from(scratch[worker].state());
      });
  for_each_window(pool_, meter_, static_cast<int64_t>(units),
                  rows_cost(batch.unit_begin.back()) / static_cast<double>(units),
                  [&](int64_t index, size_t worker) {
                    const auto u = static_cast<size_t>(index);
                    BlockWorkspace& workspace = scratch[worker];
                    const size_t stem = batch.stem_of_unit[u];
                    if (loaded[worker] != stem) workspace.state().copy_from(*states[stem]);
                    loaded[worker] = stem;
                    runner.run(sequences[stems + u], workspace, {});
                  });
  if (runner.has_experts()) {
    run_experts(block,
                {.load = expert_loader(block, *model.source, precision_),
                 .progress = [&](double) { meter_.check_cancelled(); }},
                precision_, pool_, tokens, clamps_[m]);
    pool_.parallel_for(sequences.size(), [&](size_t i, size_t worker) {
      runner.finish(sequences[i], scratch[worker], {});
    });
  }
  for (BlockWorkspace& workspace : scratch) clamps_[m].add(workspace.take_clamps());
}

double PromptRunner::cost(const PromptPlan& plan, size_t first, size_t count) const {
  const Batch batch(plan, first, count);
  const int64_t rows = batch.stem_begin.back() + batch.unit_begin.back();
  double total = 0;
  for (const EvaluatedModel& model : models_) {
    for (const BlockGraph& block : model.graph.blocks) {
      total += layer_cost(block, rows, plan.longest);
    }
  }
  return total;
}

}  // namespace pare
