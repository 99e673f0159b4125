// The unit that an algorithm works on: linear layers that share one input, with its statistics.
//
// Engines fuse such layers (q, k, v; gate, up), so they get one input scaling and, where the scale
// is per tensor, one scale.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "calib/statistics.h"

namespace pare {

/// One linear of a group.
struct GroupLinear {
  std::string name;  ///< "model.layers.0.self_attn.q_proj"
  int64_t out_features = 0;
  std::vector<float> weight;  ///< [out, in], row-major.
};

struct LinearGroup {
  int64_t in_features = 0;
  std::vector<GroupLinear> linears;
  const InputStatistics* statistics = nullptr;

  /// [in], or empty: channels with the same number must get the same input scale, because one row
  /// of the producer feeds them all (v → o under grouped-query attention). Numbers are 0 … n−1.
  std::vector<int32_t> tied_channel;
};

/// A scaling of the shared input: the layers see x / scale and hold weight × scale.
struct InputScaling {
  std::vector<float> scale;  ///< [in], positive and finite; empty means ones.
  std::string detail;        ///< What was chosen, for the report: "strength 0.85".
  double loss = 0;           ///< Relative output error, the objective of the search.
  double identity_loss = 0;  ///< The same without scaling.
};

}  // namespace pare
