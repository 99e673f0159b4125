#include "model/layer_runner.h"

namespace pare {
namespace {

int64_t rows_of(const SequenceRun& sequence) {
  int64_t rows = 0;
  for (const Segment& segment : sequence.segments) rows += segment.rows;
  return rows;
}

RunHooks hooks_of(const LayerCall& call, int64_t sequence) {
  return call.hooks ? call.hooks(sequence) : RunHooks{};
}

void for_each_sequence(const LayerCall& call, ThreadPool& pool,
                       const std::function<void(int64_t, size_t)>& body) {
  const auto count = static_cast<int64_t>(call.sequences.size());
  if (call.for_each) return call.for_each(count, body);
  pool.parallel_for(call.sequences.size(), [&](size_t sequence, size_t worker) {
    body(static_cast<int64_t>(sequence), worker);
  });
}

}  // namespace

ExpertRows run_to_experts(const BlockRunner& runner, const LayerCall& call, ThreadPool& pool) {
  int64_t rows = 0;
  for (SequenceRun& sequence : call.sequences) {
    sequence.first_row = rows;
    rows += rows_of(sequence);
  }
  ExpertRows tokens(runner.block(), rows);
  for (SequenceRun& sequence : call.sequences) sequence.experts = &tokens;
  for_each_sequence(call, pool, [&](int64_t i, size_t worker) {
    runner.run(call.sequences[static_cast<size_t>(i)], call.workspaces[worker], hooks_of(call, i));
  });
  return tokens;
}

void run_from_experts(const BlockRunner& runner, const LayerCall& call, ThreadPool& pool,
                      ExpertRows& tokens) {
  for (SequenceRun& sequence : call.sequences) sequence.experts = &tokens;
  pool.parallel_for(call.sequences.size(), [&](size_t i, size_t worker) {
    runner.finish(call.sequences[i], call.workspaces[worker],
                  hooks_of(call, static_cast<int64_t>(i)));
  });
}

void run_layer(const BlockRunner& runner, const LayerCall& call, ThreadPool& pool,
               ClampCount& clamps) {
  ExpertRows tokens = run_to_experts(runner, call, pool);
  if (!runner.has_experts()) return;
  run_experts(runner.block(), call.experts, call.precision, pool, tokens, clamps);
  run_from_experts(runner, call, pool, tokens);
}

}  // namespace pare
