// What the searches for an input scaling share: the checked group, its Gram matrix, tied channels.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/thread_pool.h"
#include "quant/linear_group.h"

namespace pare {

/// Throws Error(kInternal) when sizes in the group disagree or it has no statistics.
void check_group(const LinearGroup& group);

/// Mean Gram matrix of the group's input [in, in]; without one, the mean squares [in].
std::vector<float> group_gram(const LinearGroup& group);

/// [in] 1 for channels with any activation; a tied channel counts as its class does.
std::vector<uint8_t> active_channels(const LinearGroup& group);

/// Replaces each value by the mean or the largest of its class of tied channels.
void merge_tied_mean(const LinearGroup& group, std::span<float> values);
void merge_tied_max(const LinearGroup& group, std::span<float> values);

/// Makes raw scales usable: divided by sqrt(max × min) over the active channels, so that the
/// smallest and the largest lie around 1, clamped to 1e-4 … 1e4, and 1 for inactive channels.
void normalize_scale(std::span<const uint8_t> active, std::span<float> scale);

/// Σ w H wᵀ over all rows of the group: the output's energy, to which losses are relative.
/// Throws Error(kNonFinite) when it is not finite.
double output_energy(const LinearGroup& group, std::span<const float> gram, ThreadPool& pool);

}  // namespace pare
