// How many drafted tokens a target keeps, from the acceptance probabilities of consecutive
// positions.
//
// With α_i the probability that the token drafted at position i is kept given that all before it
// were, a draft of γ tokens that begins at i keeps
//
//   A(γ) = Σ_{k=1…γ} Π_{j<k} α_{i+j}
//
// tokens in expectation (Leviathan et al. 2023, arXiv 2211.17192, whose closed form Σ αᵏ takes all
// α alike and independent). Tokens that are easy to draft come in runs, so the measured A(γ) is
// usually above the closed form. Greedy decoding is the case α_i ∈ {0, 1}.
//
// Errors are between windows, whose positions are correlated. Pure functions on spans; results are
// values; safe from any thread.
//
//   AcceptanceCurve curve = acceptance_curve(alpha, 511, kLongestDraft);
//   Measured gain = expected_speedup(curve.accepted[3], 4, 0.25);
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "pare/measured.h"

namespace pare {

struct AcceptanceCurve {
  Measured rate;  ///< Mean α, over all positions.
  std::vector<Measured>
      accepted;  ///< A(γ) at [γ − 1], over starts that leave room for the longest.
};

/// Number of starts in a window of so many positions.
constexpr size_t draft_starts(size_t window, size_t longest) { return window + 1 - longest; }

/// `acceptance` is [windows, window], each in [0, 1]. All γ rest on the same starts, those with
/// `longest` positions left in their window, so A is monotone in γ. Intervals are Student's t
/// between windows, cut to what is possible; absent for a single window, and where windows do not
/// differ, as with a model and itself.
/// REQUIRES: acceptance.size() is a positive multiple of window; 1 ≤ longest ≤ window.
AcceptanceCurve acceptance_curve(std::span<const float> acceptance, size_t window, size_t longest,
                                 double confidence = kConfidence);

/// Σ_{k=1…γ} αᵏ = (1 − α^{γ+1}) / (1 − α) − 1, at α = 1 too.
double iid_accepted(double rate, int64_t draft_length);

/// (1 + A(γ)) / (γ c + 1): tokens of a round, in target steps of time, where a draft's step costs c
/// of the target's and the target checks γ + 1 positions in the time of one.
Measured expected_speedup(const Measured& accepted, int64_t draft_length, double cost);

/// The γ ≥ 1 with the largest value (the least of equals), speedups[γ − 1]; 0 if none exceeds 1.
int64_t best_draft_length(std::span<const Measured> speedups);

}  // namespace pare
