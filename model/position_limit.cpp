#include "model/position_limit.h"

#include <algorithm>

#include "pare/error.h"

namespace pare {
namespace {

int64_t rows_of_table(const EmbeddingSpec& embedding) {
  if (embedding.position_kind != PositionKind::kLearned) return 0;
  return embedding.position_rows - embedding.position_offset;
}

}  // namespace

int64_t position_limit(const ModelGraph& graph) {
  const int64_t limit = rows_of_table(graph.embedding);
  const int64_t of_encoder = graph.encoder ? rows_of_table(graph.encoder->embedding) : 0;
  return limit == 0 || of_encoder == 0 ? limit + of_encoder : std::min(limit, of_encoder);
}

void require_positions(const ModelGraph& graph, const std::string& path, int64_t length,
                       const std::string& what) {
  const int64_t limit = position_limit(graph);
  if (limit == 0 || length <= limit) return;
  throw Error(ErrorCode::kUsage, what + " is " + std::to_string(length) + "; " + path +
                                     " has learned positions for " + std::to_string(limit) +
                                     " tokens: give at most that many");
}

}  // namespace pare
