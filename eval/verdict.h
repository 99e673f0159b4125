// A sentence that says what an interval says, and no more.
//
// The verdict depends on the ends of the interval, never on the estimate alone. Figures are rounded
// outward, so that the sentence never claims more than the interval:
//
//   no loss detectable at n = 13,795 questions; a loss above 0.31 percentage points of accuracy is
//     excluded at 95 %
//   a loss of 0.52 % of the baseline's accuracy: between 0.31 % and 0.74 % at 95 %
//     (n = 13,795 questions)
//   undecided at n = 200 questions: …
//
// Pure functions of values; safe from any thread.
//
//   puts(verdict(verdict_input(comparison, EffectUnit::kRelative)).sentence.c_str());
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "eval/intervals.h"

namespace pare {

enum class VerdictKind {
  kIdentical,     ///< Every item equals the baseline's exactly.
  kNoDifference,  ///< 0 is inside the interval, and the interval's worse end within the margin.
  kLoss,          ///< The whole interval is worse than the baseline.
  kGain,          ///< The whole interval is better.
  kUndecided,     ///< Too few items: the interval is absent, unreliable, or wider than the margin.
};

/// What a fraction of 0.01 means; the sentence says so.
enum class EffectUnit {
  kPercentagePoints,  ///< An accuracy of 79.0 % after 80.0 %: one percentage point.
  kRelative,          ///< The same: 1.25 % of the baseline's accuracy.
};

struct VerdictInput {
  /// How much worse the candidate is, as a fraction; negative if better.
  double loss = 0;
  std::optional<Interval> interval;  ///< Of `loss`.
  double confidence = kConfidence;
  EffectUnit unit = EffectUnit::kPercentagePoints;
  std::string metric = "accuracy";
  std::string worse = "loss";  ///< "rise" for a perplexity
  std::string better = "gain";
  size_t n = 0;
  std::string items = "questions";
  /// Number of clusters that the interval rests on; 0: the items themselves.
  size_t clusters = 0;
  std::string cluster_name = "subjects";
  /// With fewer clusters (or items) than this, nothing is concluded.
  size_t least = 10;
  /// "no loss detectable" is said only if a loss above this fraction is excluded; a wider interval
  /// is undecided.
  double margin = 0.01;
};

struct Verdict {
  VerdictKind kind = VerdictKind::kUndecided;
  std::string sentence;  ///< Without a full stop; UTF-8.
};

Verdict verdict(const VerdictInput& input);

/// Input from a comparison of accuracies, in points or relative to the baseline.
VerdictInput verdict_input(const AccuracyComparison& comparison, EffectUnit unit);

/// Input from a ratio of perplexities: the loss is ratio − 1, relative.
VerdictInput verdict_input(const PerplexityComparison& comparison);

/// "identical", "no_difference", "loss", "gain" or "undecided", for JSON.
const char* verdict_kind_name(VerdictKind kind) noexcept;

}  // namespace pare
