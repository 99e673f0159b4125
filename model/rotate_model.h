// A model with its residual stream rotated: the same architecture, the same function up to
// rounding, other tensors (QuaRot without the rotations that engines would have to run; Ashkboos
// et al., 2024, arXiv:2404.00456).
//
//   RotatedModel rotated = rotate_model(model, {.heads = true, .seed = 0}, {});
//   BlockWeights weights = load_block(rotated.model.graph.blocks[0], *rotated.model.source, …);
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "model/model_files.h"

namespace pare {

struct RotationSpec {
  bool heads = false;  ///< Also the values of attention, head by head.
  uint64_t seed = 0;   ///< Of the signs.
};

struct RotatedModel {
  ModelFiles model;
  std::string description;  ///< "width 640 as 32 x 20, Paley"
  /// Of the head that was the embedding before and is a tensor of its own now; 0: it was one.
  int64_t untied_bytes = 0;
  int64_t attentions = 0;          ///< Where heads are asked for.
  int64_t rotated_attentions = 0;  ///< Of them.
};

/// Tensors named in `in_f32` are handed out in FP32 instead of the model's type. Where embedding
/// and head are one tensor, config.json gets "tie_word_embeddings": false, for the head is folded
/// with the final norm and the embedding is not. Throws as plan_rotation() and
/// make_rotated_source() do, and Error(kUsage) when the architecture has no head of its own.
RotatedModel rotate_model(const ModelFiles& model, const RotationSpec& spec,
                          const std::set<std::string>& in_f32);

}  // namespace pare
