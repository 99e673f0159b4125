// How well a compressed linear does its work: its output on sampled calibration tokens, run as
// deployed, against the output that is wanted.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/compressed_weight.h"
#include "core/thread_pool.h"
#include "model/linear.h"
#include "pipeline/input_sharing.h"
#include "pipeline/job_plan.h"

namespace pare {

/// Signal over noise in decibels; empty where there is no noise. Compares the outputs of `weight`,
/// without its pre_quant_scale, and `wanted` [out, in] on the input x [tokens, in]. Without tokens,
/// the weights themselves.
std::optional<double> measure_output(const CompressedWeight& weight, std::span<const float> wanted,
                                     std::span<const float> x);

/// The set's sampled input, [tokens, in], as its linears see it or, with `scaled` false, as it is.
std::vector<float> sampled_input(const SharingSet& set, bool scaled);

/// What the format alone would make of a linear: its original weight rounded to nearest on absolute
/// maxima, 2:4 by magnitude, the input as it is.
CompressedWeight round_to_nearest(const WorkingLinear& linear, const SharingSet& set,
                                  const QuantizeOptions& options, ThreadPool& pool);

/// The scale of a format's input whose largest magnitude is `amax`, or 0 where none is stored.
float input_scale_for(ActivationFormat activation, float amax);

/// Codes and scales of a grid go into the weight.
void store_on_grid(WeightGrid grid, std::span<const int8_t> codes, std::span<const uint8_t> keep,
                   CompressedWeight& weight);

}  // namespace pare
