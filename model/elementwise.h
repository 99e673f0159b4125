// Operations of a block on each channel by itself, by the names that descriptions use.
#pragma once

#include <cstdint>
#include <span>

#include "model/block_graph.h"

namespace pare {

/// x = activation(x), in place.
void activate(Activation activation, std::span<float> x);

/// out = activation(gate) × up; out may be gate or up.
void gated_activation(Activation activation, std::span<const float> gate, std::span<const float> up,
                      std::span<float> out);

/// Copies the channels that the slice names; in and out are `rows` rows.
void slice_rows(const SliceSpec& slice, int64_t rows, std::span<const float> in,
                std::span<float> out);

/// Each of `heads` heads of `each`, and behind it the one head of `shared`.
void join_heads(int64_t heads, int64_t rows, std::span<const float> each,
                std::span<const float> shared, std::span<float> out);

}  // namespace pare
