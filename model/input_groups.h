// Which linears of a block share an input, and what can absorb a scale of that input: derived from
// the wiring, the same way for every architecture.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/block_graph.h"

namespace pare {

/// Who can divide the shared input by a scale without changing anything else.
enum class Producer : uint8_t {
  kNone,    ///< Nobody: the scale has to be stored and applied to the input.
  kNorm,    ///< Weight and bias of the norm that makes the input, channel by channel.
  kLinear,  ///< Rows of an earlier linear, through operations that keep scales (the values of
            ///< attention, the ungated half of a gated activation, ReLU, parts of a fused linear).
};

struct InputGroup {
  int value = 0;  ///< The shared input.
  int64_t in_features = 0;
  std::vector<size_t> linears;  ///< Indices into BlockGraph::ops.
  Producer producer = Producer::kNone;
  size_t producer_op = 0;  ///< Index into ops, unless kNone.

  /// For kLinear: channel i of the input comes from row producer_row[i] of the producer. Channels
  /// with the same row must get the same scale.
  std::vector<int32_t> producer_row;

  /// "self_attn.q_proj, self_attn.k_proj, self_attn.v_proj"
  std::string describe(const BlockGraph& block) const;
};

/// All groups of a block in the order in which their inputs are made.
std::vector<InputGroup> input_groups(const BlockGraph& block);

}  // namespace pare
