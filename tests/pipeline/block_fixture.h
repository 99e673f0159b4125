// One block of a model with the statistics of its inputs, for tests below quantize().
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <vector>

#include "calib/statistics_collector.h"
#include "core/thread_pool.h"
#include "formats/weight_source.h"
#include "model/architectures.h"
#include "model/block_runner.h"
#include "model/input_groups.h"
#include "model/token_embedding.h"
#include "pipeline/job_plan.h"

namespace pare::testing {

struct CalibratedBlock {
  static constexpr int64_t kTokens = 128;

  std::unique_ptr<WeightSource> source;
  ModelGraph graph;
  JobPlan plan;
  ThreadPool pool{2};
  mutable PositionTables positions{kTokens};
  std::vector<float> hidden;  ///< [tokens, hidden] the input of the block.
  std::map<int, InputStatistics> statistics;

  const BlockGraph& block() const { return graph.blocks[0]; }

  /// The first block of options.model on kTokens consecutive token ids.
  explicit CalibratedBlock(const QuantizeOptions& options)
      : source(open_weight_source(options.model)),
        graph(describe_model(source->config_json(), "config.json")),
        plan(make_plan(options, graph)) {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < kTokens; ++i) {
      ids.push_back(static_cast<int32_t>(i * 37 % graph.vocab_size));
    }
    hidden.resize(static_cast<size_t>(kTokens * graph.hidden_size));
    TokenEmbedding(graph.embedding, *source, Precision::kF32).embed(ids, 0, hidden.data());

    std::vector<WatchedValue> watched;
    for (const InputGroup& group : input_groups(block())) {
      watched.push_back({group.value, group.in_features, true, kTokens});
    }
    StatisticsCollector collector(watched, pool);
    collector.begin_batch(1);
    run(load_block(block(), *source, Precision::kF32), collector.observer(0));
    collector.end_batch();
    for (const WatchedValue& value : watched) statistics[value.value] = collector.take(value.value);
  }

  /// The output of the block with these weights, in FP32.
  std::vector<float> run(const BlockWeights& weights, const InputObserver& observer = {}) const {
    std::vector<float> output = hidden;
    BlockWorkspace workspace(block(), {.length = kTokens}, Precision::kF32);
    BlockRunner(block(), weights, positions, Precision::kF32)
        .run(output.data(), kTokens, workspace, observer);
    return output;
  }
};

}  // namespace pare::testing
