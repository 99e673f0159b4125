#include "eval/model_limits.h"

#include <algorithm>

#include "pare/error.h"

namespace pare {
namespace {

int64_t smaller(int64_t a, int64_t b) { return a == 0 || b == 0 ? a + b : std::min(a, b); }

int64_t rows_of_table(const EmbeddingSpec& embedding) {
  if (embedding.position_kind != PositionKind::kLearned) return 0;
  return embedding.position_rows - embedding.position_offset;
}

}  // namespace

int64_t position_limit(const ModelGraph& graph) {
  const int64_t limit = rows_of_table(graph.embedding);
  return graph.encoder ? smaller(limit, rows_of_table(graph.encoder->embedding)) : limit;
}

int64_t position_limit(std::span<const EvaluatedModel> models) {
  int64_t limit = 0;
  for (const EvaluatedModel& model : models) limit = smaller(limit, position_limit(model.graph));
  return limit;
}

void require_positions(std::span<const EvaluatedModel> models, int64_t length,
                       const std::string& what) {
  for (const EvaluatedModel& model : models) {
    const int64_t limit = position_limit(model.graph);
    if (limit == 0 || length <= limit) continue;
    throw Error(ErrorCode::kUsage, what + " is " + std::to_string(length) + "; " +
                                       model.source->path() + " has learned positions for " +
                                       std::to_string(limit) + " tokens: give at most that many");
  }
}

void require_no_encoder(std::span<const EvaluatedModel> models, const std::string& what) {
  for (const EvaluatedModel& model : models) {
    if (!model.graph.encoder) continue;
    throw Error(ErrorCode::kUsage,
                what + " is for models that continue a text; " + model.source->path() + " (" +
                    model.graph.architecture +
                    ") has an encoder and a decoder: take the task perplexity, with pairs of "
                    "\"source\" and \"target\"");
  }
}

}  // namespace pare
