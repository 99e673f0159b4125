// What a model can be asked: how long its sequences may be, and whether it reads pairs of texts.
// Pure functions.
//
//   require_positions(model, options.ctx, "ctx");
//   require_no_encoder(models, "speculative decoding");
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "eval/evaluated_model.h"
#include "model/position_limit.h"

namespace pare {

/// The least of the models' limits; 0: none has one.
int64_t position_limit(std::span<const EvaluatedModel> models);

/// Throws for the first model whose tables are too short, as it does for one.
void require_positions(std::span<const EvaluatedModel> models, int64_t length,
                       const std::string& what);

/// Throws Error(kUsage), naming the model, where one reads pairs of source and target; `what` says
/// what cannot be done with it ("task mmlu").
void require_no_encoder(std::span<const EvaluatedModel> models, const std::string& what);

}  // namespace pare
