// What the linears of a set need of their input, made once for all of them, and the weight that
// each should come close to.
#pragma once

#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "pipeline/input_sharing.h"
#include "pipeline/job_plan.h"
#include "quant/gptq.h"
#include "quant/noise_compensation.h"
#include "quant/obs_solver.h"

namespace pare {

struct SetContext {
  const SharingSet& set;
  const JobPlan& plan;
  ThreadPool& pool;
  std::vector<float> gram;        // mean, of the scaled input; empty without calibration
  InverseFactor factor;           // when weights are updated
  OrderedFactor ordered;          // for dense weights that GPTQ rounds
  NoiseFilter noise_filter;       // for an input that is rounded, or empty
  std::vector<float> diagonal;    // where codes go on by coordinate descent, else empty
  std::vector<float> correction;  // for a compressed input, or empty
};

SetContext make_context(const WorkingBlock& working, const SharingSet& set, const JobPlan& plan,
                        ThreadPool& pool);

/// Whether 2:4 pruning of this linear solves for the weights that stay.
bool updates_weights(const LinearPlan& plan);

/// The damping that a factorisation needed.
double used_damping(const SetContext& context);

/// The scale of an input from calibration, or 0 where there is none.
float calibrated_input_scale(const QFormat& format, const SetContext& context);

/// The weight [out, in] that makes up for what compression did to the input (GPTAQ).
std::vector<float> matched_weight(const WorkingLinear& linear, const SetContext& context);

/// The weight that rounding should come close to: the matched one, refitted for an input that
/// rounding makes noisy.
std::vector<float> target_weight(const WorkingLinear& linear, const SetContext& context);

/// "AWQ scales, clip search, GPTQ, coordinate descent": what chose the numbers.
std::string algorithm_of(const WorkingLinear& linear, const SetContext& context);

/// What the plan asked for and could not have, in words; mostly empty.
std::string fallback_of(const WorkingLinear& linear, const SetContext& context);

}  // namespace pare
