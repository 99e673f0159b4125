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

namespace pare {

/// Positions that the model's tables hold, of sources and targets alike; 0: there is no table, and
/// sequences may be of any length. (What it was trained on is ModelGraph::max_positions.)
int64_t position_limit(const ModelGraph& graph);

/// The least of the models' limits; 0: none has one.
int64_t position_limit(std::span<const EvaluatedModel> models);

/// Throws Error(kUsage), naming the model and both numbers, for sequences that are longer than its
/// tables; `what` names the length that is too large ("ctx").
void require_positions(std::span<const EvaluatedModel> models, int64_t length,
                       const std::string& what);

/// Throws Error(kUsage), naming the model, where one reads pairs of source and target; `what` says
/// what cannot be done with it ("task mmlu").
void require_no_encoder(std::span<const EvaluatedModel> models, const std::string& what);

}  // namespace pare
