// Small models with random weights, and their forward pass written out in a few lines.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "model/block_graph.h"
#include "tests/model/memory_source.h"

namespace pare::testing {

inline constexpr uint32_t kModelSeed = 20240611;

/// config.json of a Llama with 2 layers, hidden size 48, 6 heads of 8 channels over 2 key heads,
/// FFN 72, vocabulary 100.
nlohmann::json small_llama_config();

/// The graph of a configuration.
ModelGraph graph_of(const nlohmann::json& config);

/// Random weights, norms and biases for a configuration.
MemorySource random_model(const nlohmann::json& config, uint32_t seed);

/// [count] random ids below the vocabulary.
std::vector<int32_t> random_ids(const ModelGraph& graph, int64_t count, uint32_t seed);

/// How run_model() cuts its work; none of it may change the result.
struct RunOptions {
  int64_t threads = 1;
  int64_t head_rows = 32;
};

/// Logits [ids, vocabulary] of sequences of `length` tokens, one after another.
std::vector<float> run_model(const WeightSource& source, std::span<const int32_t> ids,
                             int64_t length, Precision precision, const RunOptions& options = {});

/// ‖found − expected‖₂ / ‖expected‖₂
double relative_error(std::span<const float> found, std::span<const float> expected);

}  // namespace pare::testing
