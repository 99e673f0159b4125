// From token ids to the first block's input: the embedding, positions where the model adds them,
// and what the model does to each token then (a norm, a projection).
//
// Immutable and safe to use from several threads. Keeps references to spec and source.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "formats/weight_source.h"
#include "model/block_graph.h"
#include "model/block_weights.h"

namespace pare {

class TokenEmbedding {
 public:
  TokenEmbedding(const EmbeddingSpec& spec, const WeightSource& source, Precision precision);

  /// hidden [ids, hidden size] of tokens at position, position + 1, … Throws
  /// Error(kInputMalformed) for an id outside of the vocabulary, or a position outside of the
  /// table.
  void embed(std::span<const int32_t> ids, int64_t position, float* hidden) const;

  /// Tells the source that the table is not needed for now.
  void release() const { source_.release({spec_.tokens}); }

 private:
  void look_up(std::span<const int32_t> ids, float* rows) const;
  void add_positions(int64_t first, std::span<float> rows) const;
  void add_position(int64_t position, std::span<float> row) const;

  const EmbeddingSpec& spec_;
  const WeightSource& source_;
  Precision precision_;
  float scale_;
  std::vector<float> positions_;  // [rows, width]; empty where they are none or computed
  BlockWeights stem_;
};

/// Sines and cosines of a position as FairSeq's models use them: all sines, then all cosines; row
/// [width].
void add_sinusoids(int64_t position, std::span<float> row);

}  // namespace pare
