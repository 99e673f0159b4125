#include "eval/verdict.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace pare {
namespace {

/// Percent with a fixed number of decimals. std::to_chars knows no locale.
std::string fixed(double percent, int decimals) {
  std::array<char, 400> text{};
  const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), percent,
                                          std::chars_format::fixed, decimals);
  return {text.data(), end};
}

/// Rounded away from 0: 0.3101 becomes 0.32, but 0.31 with its binary error stays 0.31.
std::string rounded_up(double percent, int decimals) {
  const double scale = std::pow(10.0, decimals);
  return fixed(std::ceil(percent * scale - 1e-7) / scale, decimals);
}

std::string rounded_down(double percent, int decimals) {
  const double scale = std::pow(10.0, decimals);
  return fixed(std::floor(percent * scale + 1e-7) / scale, decimals);
}

/// 13795 as 13,795.
std::string grouped(size_t n) {
  std::string digits = std::to_string(n);
  for (size_t left = digits.size(); left > 3;) {
    left -= 3;
    digits.insert(left, ",");
  }
  return digits;
}

/// Decimals that show two digits of the interval's half width, and of `smallest` at least one.
int decimals_for(double half, double smallest) {
  int decimals = 2;
  while (decimals < 6 && half > 0 && half * std::pow(10.0, decimals) < 9.5) ++decimals;
  while (decimals < 6 && smallest > 0 && smallest * std::pow(10.0, decimals) < 1) ++decimals;
  return decimals;
}

/// Pieces that every sentence is made of.
struct Words {
  explicit Words(const VerdictInput& input)
      : sign(input.unit == EffectUnit::kRelative ? " %" : ""),
        quantity(input.unit == EffectUnit::kRelative ? " of the baseline's " + input.metric
                                                     : " percentage points of " + input.metric),
        size("n = " + grouped(input.n) + " " + input.items),
        level(" at " + percent_of(input.confidence) + " %") {
    if (input.clusters > 0) size += " in " + grouped(input.clusters) + " " + input.cluster_name;
  }

  static std::string percent_of(double confidence) {
    std::string text = fixed(100 * confidence, 3);
    while (text.back() == '0') text.pop_back();
    if (text.back() == '.') text.pop_back();
    return text;
  }

  std::string sign;      // after each figure
  std::string quantity;  // after the last figure
  std::string size;
  std::string level;
};

std::string certain(const Words& words, const std::string& direction, double value, double nearer,
                    double farther) {
  const double half = 0.5 * (farther - nearer);
  const int decimals = decimals_for(half, nearer);
  return "a " + direction + " of " + fixed(value, decimals) + words.sign + words.quantity +
         ": between " + rounded_down(nearer, decimals) + words.sign + " and " +
         rounded_up(farther, decimals) + words.sign + words.level + " (" + words.size + ")";
}

/// How many items would bring the interval's half width down to the margin, to two digits.
std::string advice(const VerdictInput& input, double half) {
  const double percent = 100 * input.margin;
  if (!(input.margin > 0) || half <= percent) return "";
  const double needed = static_cast<double>(input.n) * (half / percent) * (half / percent);
  if (needed > 1e15) return "";
  const double step = std::pow(10.0, std::max(0.0, std::floor(std::log10(needed)) - 1));
  const auto rounded = static_cast<size_t>(std::ceil(needed / step) * step);
  const bool relative = input.unit == EffectUnit::kRelative;
  return "; about " + grouped(rounded) + " " + input.items + " would narrow this to ± " +
         rounded_up(percent, decimals_for(percent, 0)) + (relative ? " %" : " points");
}

std::string undecided(const VerdictInput& input, const Words& words, double gain, double loss) {
  const double half = 0.5 * (gain + loss);
  const int decimals = decimals_for(half, 0);
  return "undecided at " + words.size + ": between a " + input.better + " of " +
         rounded_up(gain, decimals) + words.sign + " and a " + input.worse + " of " +
         rounded_up(loss, decimals) + words.sign + words.quantity + words.level +
         advice(input, half);
}

}  // namespace

Verdict verdict(const VerdictInput& input) {
  const Words words(input);
  if (input.n == 0) return {VerdictKind::kUndecided, "undecided: no " + input.items};
  const size_t units = input.clusters > 0 ? input.clusters : input.n;
  const bool usable = input.interval && std::isfinite(input.loss) &&
                      std::isfinite(input.interval->lower) && std::isfinite(input.interval->upper);
  if (usable && input.loss == 0 && input.interval->lower == 0 && input.interval->upper == 0) {
    return {VerdictKind::kIdentical, "identical: the " + input.metric + " of each of " +
                                         grouped(input.n) + " " + input.items +
                                         " equals the baseline's exactly"};
  }
  if (!usable && units >= std::max<size_t>(input.least, 2)) {
    return {VerdictKind::kUndecided, "undecided at " + words.size + ": the " + input.worse +
                                         " of " + input.metric + " has no finite interval"};
  }
  if (!usable || units < input.least) {
    return {VerdictKind::kUndecided, "undecided: " + words.size + " is too small; at least " +
                                         grouped(std::max<size_t>(input.least, 2)) + " " +
                                         (input.clusters > 0 ? input.cluster_name : input.items) +
                                         " are needed"};
  }
  const double loss = 100 * input.loss;
  const double best = 100 * input.interval->lower;
  const double worst = 100 * input.interval->upper;
  if (best > 0) return {VerdictKind::kLoss, certain(words, input.worse, loss, best, worst)};
  if (worst < 0) return {VerdictKind::kGain, certain(words, input.better, -loss, -worst, -best)};
  if (input.interval->upper > input.margin) {
    return {VerdictKind::kUndecided, undecided(input, words, -best, worst)};
  }
  const int decimals = decimals_for(worst, 0);
  return {VerdictKind::kNoDifference, "no " + input.worse + " detectable at " + words.size +
                                          "; a " + input.worse + " above " +
                                          rounded_up(worst, decimals) + words.sign +
                                          words.quantity + " is excluded" + words.level};
}

VerdictInput verdict_input(const AccuracyComparison& comparison, EffectUnit unit) {
  const Measured& change =
      unit == EffectUnit::kRelative ? comparison.relative : comparison.difference;
  VerdictInput input;
  input.loss = 0 - change.value;  // not −0
  if (change.interval)
    input.interval = Interval{0 - change.interval->upper, 0 - change.interval->lower};
  input.confidence = comparison.confidence;
  input.unit = unit;
  input.n = comparison.n;
  if (comparison.clustered) input.clusters = comparison.clusters;
  return input;
}

VerdictInput verdict_input(const PerplexityComparison& comparison) {
  VerdictInput input;
  input.loss = comparison.ratio.value - 1;
  if (comparison.ratio.interval) {
    input.interval =
        Interval{comparison.ratio.interval->lower - 1, comparison.ratio.interval->upper - 1};
  }
  input.confidence = comparison.confidence;
  input.unit = EffectUnit::kRelative;
  input.metric = "perplexity";
  input.worse = "rise";
  input.better = "fall";
  input.n = comparison.windows;
  input.items = "windows";
  return input;
}

const char* verdict_kind_name(VerdictKind kind) noexcept {
  switch (kind) {
    case VerdictKind::kIdentical:
      return "identical";
    case VerdictKind::kNoDifference:
      return "no_difference";
    case VerdictKind::kLoss:
      return "loss";
    case VerdictKind::kGain:
      return "gain";
    case VerdictKind::kUndecided:
      return "undecided";
  }
  return "undecided";
}

}  // namespace pare
