// From the scores of every token to what a report says of a perplexity and of divergences.
//
// Errors are between windows (or runs of windows that overlap), whose tokens share their context.
//
//   PerplexityResult baseline = summarize_baseline(scores[0], text);
//   PerplexityResult candidate = summarize_candidate(scores[1], scores[0], text, classes);
#pragma once

#include <cstdint>
#include <vector>

#include "eval/perplexity.h"
#include "eval/scored_windows.h"
#include "pare/evaluate_report.h"

namespace pare {

/// Class of each score's token, an index into kTokenClassNames; empty where they are unknown.
using ScoreClasses = std::vector<uint8_t>;

/// All but the method.
PerplexityResult summarize_baseline(const TokenScores& baseline, const ScoredWindows& text);

/// All but the method. REQUIRES: both scored on `text`; `classes` empty or as long.
PerplexityResult summarize_candidate(const TokenScores& candidate, const TokenScores& baseline,
                                     const ScoredWindows& text, const ScoreClasses& classes);

/// Quarter decades from 1e-6 to 100 nats; the first bin begins at 0, the last holds all above.
Histogram kl_histogram(const std::vector<float>& kl);

}  // namespace pare
