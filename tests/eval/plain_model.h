// A model run plainly, without any of evaluation's code: what evaluation is tested against.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "eval/evaluated_model.h"
#include "model/linear.h"

namespace pare::testing {

/// Logits of one window [ids, vocabulary], layer by layer; an encoder reads `source`.
std::vector<float> plain_logits(const EvaluatedModel& model, std::span<const int32_t> ids,
                                Precision precision, std::span<const int32_t> source = {});

/// Of one row, in double.
std::vector<double> log_softmax(std::span<const float> logits);

}  // namespace pare::testing
