// Models of any architecture with random weights in memory, and their forward pass written out in a
// few lines.
//
//   const MemorySource source = random_model(nlohmann::json::parse(config.json), kModelSeed);
//   const auto logits = run_sequences(graph, source, random_sequences(graph, {20, 7}, kModelSeed),
//                                     Precision::kF32);
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "model/block_graph.h"
#include "model/linear.h"
#include "tests/support/memory_source.h"

namespace pare::testing {

inline constexpr uint32_t kModelSeed = 20240611;

/// config.json of a Llama with 2 layers, hidden size 48, 6 heads of 8 channels over 2 key heads,
/// FFN 72, vocabulary 100.
nlohmann::json small_llama_config();

/// The graph of a configuration.
ModelGraph graph_of(const nlohmann::json& config);

/// Random values for all tensors of a configuration, of such sizes that every one of them matters.
MemorySource random_model(const nlohmann::json& config, uint32_t seed);

/// [count] random ids below the vocabulary.
std::vector<int32_t> random_ids(const ModelGraph& graph, int64_t count, uint32_t seed);

/// Tokens of a model; `source` is what its encoder reads, if it has one.
struct Sequence {
  std::vector<int32_t> ids;
  std::vector<int32_t> source;
};

/// One sequence for each length, the encoder's two tokens longer.
std::vector<Sequence> random_sequences(const ModelGraph& graph, const std::vector<int64_t>& lengths,
                                       uint32_t seed);

/// How run_sequences() works; none of it may change a result.
struct SequenceRunOptions {
  int64_t threads = 1;
  int64_t head_rows = 32;
  /// Of the position tables: as long as the longest sequence that there may be. Scalings of rotary
  /// embeddings depend on it.
  int64_t positions = 64;
  /// Where the experts go that each token chose, by prefix of the block, tokens in order.
  std::map<std::string, std::vector<int32_t>>* experts = nullptr;
};

/// Logits [tokens, vocabulary] of each sequence.
std::vector<std::vector<float>> run_sequences(const ModelGraph& graph, const WeightSource& source,
                                              std::span<const Sequence> sequences,
                                              Precision precision,
                                              const SequenceRunOptions& options = {});

/// The same for sequences of `length` tokens, one after another, of a model without encoder.
std::vector<float> run_model(const WeightSource& source, std::span<const int32_t> ids,
                             int64_t length, Precision precision,
                             const SequenceRunOptions& options = {});

/// ‖found − expected‖₂ / ‖expected‖₂
double relative_error(std::span<const float> found, std::span<const float> expected);

}  // namespace pare::testing
