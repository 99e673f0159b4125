// Where the loss of a compressed model comes from: the error of each linear by itself.
//
// For each linear of a candidate, on the windows of a text:
//
//   signal-to-noise   10 log10(Σ y² / Σ (y_c − y)²) of its output y, bias included, where the input
//                     is the baseline's;
//   divergence        KL(baseline ‖ baseline with that linear alone compressed), in nats a token,
//                     with its standard error between windows.
//
// The divergences of all linears add up to about that of the whole candidate where errors are small
// and independent. A linear runs as deployed, its input quantized by it, and in its own scales
// (eval/layer_scales.h). Rounding of keys and values is not part of it.
//
// Layer-major: for block 0, 1, 2 … the baseline's block is read, all models with one linear swapped
// in an earlier block run through it, and those with one of this block begin. So a linear of block
// b costs the blocks from b on and the output head. Models that do not fit in `hidden_bytes` run in
// later passes, which begin at their own first block. Memory beside the hidden states: one block of
// the baseline, one linear of the candidate, the workers' scratch; or both output heads.
//
//   std::vector<LayerError> errors = layer_errors(models[0], models[1], windows,
//       {.precision = Precision::kBf16, .hidden_bytes = int64_t{1} << 30}, pool, meter);
#pragma once

#include <cstdint>
#include <vector>

#include "calib/token_source.h"
#include "core/progress_meter.h"
#include "core/thread_pool.h"
#include "eval/evaluated_model.h"
#include "kernels/attention.h"
#include "pare/evaluate_report.h"

namespace pare {

struct LayerErrorSetup {
  Precision precision = Precision::kBf16;
  int64_t hidden_bytes = 0;  ///< For hidden states; at least least_hidden_bytes().
};

/// Hidden states of one window: at the beginning of a pass, at the end, and of one swapped linear.
int64_t least_hidden_bytes(const EvaluatedModel& baseline, const TokenWindows& windows);

/// Errors of all linears in the order of the graph; the output head is the last of them where it
/// differs from the baseline's. Does not depend on hidden_bytes or on the number of threads. Sets
/// the meter's total. REQUIRES: windows of at least two tokens. Throws as require_same_layers()
/// (eval/layer_match.h) and block_scales() do, Error(kLimitExceeded) when hidden_bytes is too
/// little, Error(kNonFinite) naming model and linear, Error(kInterrupted).
std::vector<LayerError> layer_errors(const EvaluatedModel& baseline,
                                     const EvaluatedModel& candidate, const TokenWindows& windows,
                                     const LayerErrorSetup& setup, ThreadPool& pool,
                                     ProgressMeter& meter);

}  // namespace pare
