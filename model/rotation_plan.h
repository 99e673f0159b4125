// Which tensors of a model change, and how, when its residual stream is rotated: derived from the
// wiring, the same way for every architecture (QuaRot; Ashkboos et al., 2024, arXiv:2404.00456).
//
// With an orthogonal Q, the stream x becomes x Q. An RMS norm without its gain commutes with that,
// so gains move into the linears that read the norm, W diag(g) Q, whose norms keep ones; linears
// that write to the stream become Qᵀ W, their biases b Q; the embedding becomes E Q. The values of
// attention can be rotated head by head as well: the rows of v by Rᵀ, the columns of o by R.
//
//   RotationPlan plan = plan_rotation(graph, "lm_head.weight", true, path);
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "model/block_graph.h"

namespace pare {

/// Channels of a tensor that are mixed: each run of `width` channels by the rotation of that width.
struct ChannelMixing {
  int64_t width = 0;              ///< 0: nothing is mixed.
  std::vector<int32_t> channels;  ///< Those that are mixed, run after run; empty: all, in order.
};

/// How one tensor of the rotated model is made.
struct TensorRotation {
  std::string stored;         ///< Of which tensor of the model.
  std::optional<float> fill;  ///< The tensor is this value throughout: a norm's gain that moved.
  std::string gain;           ///< Norm weight that multiplies the input channels; empty: none.
  float gain_offset = 0;      ///< Added to that weight, as in NormSpec.
  ChannelMixing inputs;
  ChannelMixing outputs;
  bool transposed = false;  ///< Stored [in, out] instead of [out, in].
};

struct RotationPlan {
  int64_t width = 0;                              ///< Of the residual stream.
  std::map<std::string, TensorRotation> tensors;  ///< By name in the rotated model.
  int64_t attentions = 0;          ///< Attention operations, where heads are asked for …
  int64_t rotated_attentions = 0;  ///< … and those whose values are rotated.
};

/// The graph's head.matrix is the tensor that the head is read from; `head` is the name that it
/// gets, which is another one where the embedding is also the head. Throws Error(kUsage), beginning
/// with `origin` and naming the layer and the reason, for a model whose stream cannot be rotated:
/// norms that take off the mean or have a bias, norms behind attention or MLP, an encoder, a
/// table of positions, a projection between embedding and stream, widths without a rotation.
RotationPlan plan_rotation(const ModelGraph& graph, const std::string& head, bool heads,
                           const std::string& origin);

}  // namespace pare
