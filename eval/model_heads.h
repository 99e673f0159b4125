// The output heads of several models, sharing what is equal byte for byte.
#pragma once

#include <span>
#include <vector>

#include "eval/evaluated_model.h"
#include "model/model_head.h"

namespace pare {

/// `owners` as shared_heads() says. Heads refer to each other, so the vector must not be changed.
std::vector<ModelHead> load_heads(std::span<const EvaluatedModel> models,
                                  std::span<const size_t> owners, Precision precision);

}  // namespace pare
