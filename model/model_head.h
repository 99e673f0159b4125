// The two ends of a model: token embedding, and final norm with the head that makes logits.
//
// Immutable and safe to use from several threads, each with its LogitsWorkspace.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "formats/weight_source.h"
#include "model/block_graph.h"
#include "model/linear.h"

namespace pare {

/// hidden [ids, hidden_size] from token ids. Throws Error(kInputMalformed) for an id outside the
/// vocabulary.
void embed_tokens(const ModelGraph& graph, const WeightSource& source, std::span<const int32_t> ids,
                  float* hidden);

struct LogitsWorkspace {
  std::vector<float> normed;
  std::vector<float> logits;  ///< [padded rows, vocab]
  LinearInput input;
};

class ModelHead {
 public:
  ModelHead(const ModelGraph& graph, const WeightSource& source, Precision precision);

  /// A head that uses the packed matrix of `other`, for models whose head tensors are equal byte
  /// for byte.
  ModelHead(const ModelGraph& graph, const WeightSource& source, const ModelHead& other);

  /// Logits of hidden [rows, hidden_size], [rows, vocab], valid until the next call.
  std::span<const float> logits(const float* hidden, int64_t rows,
                                LogitsWorkspace& workspace) const;

 private:
  int64_t hidden_size_;
  int64_t vocab_size_;
  float epsilon_;
  std::vector<float> norm_;
  std::shared_ptr<const Linear> head_;
};

}  // namespace pare
