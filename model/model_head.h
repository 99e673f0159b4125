// From the last block's output to logits: the final norm, a projection, and the output matrix.
//
// Immutable and safe to use from several threads, each with its LogitsWorkspace.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "formats/weight_source.h"
#include "model/block_graph.h"
#include "model/block_runner.h"
#include "model/linear.h"

namespace pare {

struct LogitsWorkspace {
  std::optional<BlockWorkspace> tail;
  std::vector<float> hidden;
  std::vector<float> normed;
  std::vector<float> logits;  ///< [padded rows, vocab]
  LinearInput input;
};

class ModelHead {
 public:
  /// Keeps a reference to the graph.
  ModelHead(const ModelGraph& graph, const WeightSource& source, Precision precision);

  /// A head that uses the packed matrix of `other`, for models whose head tensors are equal byte
  /// for byte.
  ModelHead(const ModelGraph& graph, const WeightSource& source, Precision precision,
            const ModelHead& other);

  /// Logits of hidden [rows, hidden_size], [rows, vocab], valid until the next call. REQUIRES: at
  /// most kChunkTokens rows.
  std::span<const float> logits(const float* hidden, int64_t rows,
                                LogitsWorkspace& workspace) const;

 private:
  ModelHead(const ModelGraph& graph, const WeightSource& source, Precision precision,
            std::shared_ptr<const Linear> matrix);

  const ModelGraph& graph_;
  Precision precision_;
  std::unique_ptr<const BlockWeights> tail_weights_;
  std::unique_ptr<const BlockRunner> tail_;
  std::vector<float> bias_;
  std::shared_ptr<const Linear> matrix_;
};

}  // namespace pare
