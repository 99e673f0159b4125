// A model whose residual stream is rotated (model/rotation_plan.h), tensor by tensor.
//
// Tensors are rotated in FP32 when they are asked for, from the tensors of the model as they are
// stored, and kept until they are released: never more of them than are in use. What will be
// quantized is handed out in FP32, so that it is rounded once; everything else has the element type
// of the model. The same bytes however a tensor is cut and from whichever thread.
//
// Shares ownership of the model; thread-safe.
//
//   auto source = make_rotated_source(base, plan_rotation(graph, head, true, path), options);
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "formats/weight_source.h"
#include "model/rotation_plan.h"

namespace pare {

struct RotatedSourceOptions {
  uint64_t seed = 0;
  std::string config_json;       ///< Of the rotated model.
  std::set<std::string> in_f32;  ///< Tensors that are not rounded to the model's element type.
};

/// Reads the norms whose gains move. Throws Error(kInputMalformed) when a tensor that is rotated is
/// compressed, Error(kNonFinite) naming file and tensor for a gain that is no finite number, or,
/// when it is read, for a tensor whose rotation is none. sha256() covers the model and the
/// rotation.
std::unique_ptr<WeightSource> make_rotated_source(std::shared_ptr<const WeightSource> base,
                                                  RotationPlan plan, RotatedSourceOptions options);

}  // namespace pare
