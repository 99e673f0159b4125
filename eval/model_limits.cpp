#include "eval/model_limits.h"

#include "pare/error.h"

namespace pare {

int64_t position_limit(std::span<const EvaluatedModel> models) {
  int64_t limit = 0;
  for (const EvaluatedModel& model : models) {
    const int64_t own = position_limit(model.graph);
    if (own > 0 && (limit == 0 || own < limit)) limit = own;
  }
  return limit;
}

void require_positions(std::span<const EvaluatedModel> models, int64_t length,
                       const std::string& what) {
  for (const EvaluatedModel& model : models) {
    require_positions(model.graph, model.source->path(), length, what);
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
