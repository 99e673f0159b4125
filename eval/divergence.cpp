#include "eval/divergence.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <string>

#include "eval/clusters.h"
#include "eval/distribution.h"
#include "eval/intervals.h"
#include "eval/token_class.h"
#include "eval/top_tokens.h"
#include "eval/verdict.h"

namespace pare {
namespace {

// Of each score, the number of its cluster.
std::vector<uint32_t> cluster_of_scores(const ScoredWindows& text) {
  std::vector<uint32_t> groups(text.scores());
  for (size_t window = 0; window < text.ranges.size(); ++window) {
    const auto cluster =
        static_cast<uint32_t>(static_cast<int64_t>(window) / text.windows_per_cluster);
    std::fill(groups.begin() + static_cast<ptrdiff_t>(text.first[window]),
              groups.begin() + static_cast<ptrdiff_t>(text.first[window + 1]), cluster);
  }
  return groups;
}

std::vector<double> widened(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

// Mean losses of clusters, weighted by their numbers of tokens.
PerplexityComparison compare_losses(const std::vector<float>& nll, const std::vector<float>& base,
                                    const Clusters& clusters) {
  const std::vector<double> tokens = clusters.weights();
  std::vector<double> losses = clusters.sums(widened(nll));
  std::vector<double> base_losses = clusters.sums(widened(base));
  for (size_t i = 0; i < tokens.size(); ++i) {
    losses[i] /= tokens[i];
    base_losses[i] /= tokens[i];
  }
  return compare_perplexity(losses, base_losses, tokens);
}

Measured share(const std::vector<uint8_t>& counts, double whole, const Clusters& clusters) {
  std::vector<double> values(counts.begin(), counts.end());
  for (double& value : values) value /= whole;
  const Estimate estimate = clustered_estimate(values, clusters);
  Measured result{estimate.mean, estimate.standard_error,
                  t_interval(estimate, clusters.effective_count())};
  if (result.interval) {
    result.interval->lower = std::max(0.0, result.interval->lower);
    result.interval->upper = std::min(1.0, result.interval->upper);
  }
  return result;
}

// The scores of one slice.
struct Slice {
  TokenScores scores;
  std::vector<float> base_nll;
  std::vector<uint32_t> clusters;
};

class Slicer {
 public:
  Slicer(const TokenScores& candidate, const TokenScores& baseline,
         const std::vector<uint32_t>& clusters)
      : candidate_(candidate), baseline_(baseline), clusters_(clusters) {}

  // One slice for each name that has tokens; slice_of[score] is an index into the names.
  std::vector<DivergenceSlice> cut(const std::vector<uint8_t>& slice_of,
                                   const std::vector<std::string>& names) const {
    std::vector<Slice> slices(names.size());
    for (size_t i = 0; i < slice_of.size(); ++i) {
      Slice& slice = slices[slice_of[i]];
      slice.scores.nll.push_back(candidate_.nll[i]);
      slice.scores.kl.push_back(candidate_.kl[i]);
      slice.scores.same_top.push_back(candidate_.same_top[i]);
      slice.base_nll.push_back(baseline_.nll[i]);
      slice.clusters.push_back(clusters_[i]);
    }
    std::vector<DivergenceSlice> result;
    for (size_t i = 0; i < slices.size(); ++i) {
      if (!slices[i].base_nll.empty()) result.push_back(summarize(slices[i], names[i]));
    }
    return result;
  }

 private:
  static DivergenceSlice summarize(const Slice& slice, const std::string& name) {
    const Clusters clusters = Clusters::between(slice.clusters);
    const PerplexityComparison comparison =
        compare_losses(slice.scores.nll, slice.base_nll, clusters);
    const Estimate kl = clustered_estimate(widened(slice.scores.kl), clusters);
    DivergenceSlice result;
    result.name = name;
    result.tokens = static_cast<int64_t>(slice.base_nll.size());
    result.base_ppl = comparison.base_perplexity.value;
    result.ppl_ratio = comparison.ratio;
    result.kl_mean = {kl.mean, kl.standard_error, t_interval(kl, clusters.effective_count())};
    result.top1_agreement = share(slice.scores.same_top, 1, clusters);
    return result;
  }

  const TokenScores& candidate_;
  const TokenScores& baseline_;
  const std::vector<uint32_t>& clusters_;
};

// Positions 1, 2–3, 4–7 …: each range has as many tokens of context at least as it is wide.
std::vector<DivergenceSlice> by_position(const Slicer& slicer, const ScoredWindows& text) {
  std::vector<uint8_t> slice_of;
  slice_of.reserve(text.scores());
  for (const ScoredRange& range : text.ranges) {
    for (int64_t position = range.begin; position < range.end; ++position) {
      slice_of.push_back(static_cast<uint8_t>(std::bit_width(static_cast<uint64_t>(position)) - 1));
    }
  }
  std::vector<std::string> names;
  for (int64_t first = 1; first < text.windows.length; first *= 2) {
    const int64_t last = std::min(2 * first, text.windows.length) - 1;
    names.push_back(first == last ? std::to_string(first)
                                  : std::to_string(first) + "–" + std::to_string(last));
  }
  return slicer.cut(slice_of, names);
}

Divergence diverge(const TokenScores& candidate, const TokenScores& baseline,
                   const ScoredWindows& text, const ScoreClasses& classes,
                   const std::vector<uint32_t>& groups, const Clusters& clusters) {
  Divergence result;
  const DistributionSummary kl = summarize(candidate.kl, clusters);
  result.kl_mean = kl.mean;
  result.kl_median = kl.quantiles[0].measured;
  result.kl_p90 = kl.quantiles[1].measured;
  result.kl_p95 = kl.quantiles[2].measured;
  result.kl_p99 = kl.quantiles[3].measured;
  result.kl_p999 = kl.quantiles[4].measured;
  result.kl_max = kl.maximum;
  result.kl_histogram = kl_histogram(candidate.kl);

  std::vector<float> delta_p(candidate.nll.size());
  for (size_t i = 0; i < delta_p.size(); ++i) {
    delta_p[i] = std::exp(-candidate.nll[i]) - std::exp(-baseline.nll[i]);
  }
  const DistributionSummary change = summarize(delta_p, clusters, {});
  result.delta_p_mean = change.mean;
  result.delta_p_rms = change.rms;
  result.top1_agreement = share(candidate.same_top, 1, clusters);
  result.top5_agreement = share(candidate.common_top5, kTopTokens, clusters);

  const Slicer slicer(candidate, baseline, groups);
  result.by_position = by_position(slicer, text);
  if (!classes.empty()) {
    result.by_token_class = slicer.cut(classes, {kTokenClassNames.begin(), kTokenClassNames.end()});
  }
  return result;
}

void describe_size(const ScoredWindows& text, PerplexityResult& result) {
  result.tokens = static_cast<int64_t>(text.scores());
  result.windows = text.windows.count;
}

}  // namespace

Histogram kl_histogram(const std::vector<float>& kl) {
  constexpr int kFirst = -24;  // quarter decades
  constexpr int kLast = 8;
  Histogram result;
  result.edges.push_back(0);
  for (int quarter = kFirst; quarter <= kLast; ++quarter) {
    result.edges.push_back(std::pow(10.0, 0.25 * quarter));
  }
  result.counts.assign(result.edges.size() - 1, 0);
  for (const float value : kl) {
    const auto above =
        std::upper_bound(result.edges.begin(), result.edges.end(), static_cast<double>(value));
    const auto bin = std::clamp<ptrdiff_t>(above - result.edges.begin() - 1, 0,
                                           static_cast<ptrdiff_t>(result.counts.size()) - 1);
    ++result.counts[static_cast<size_t>(bin)];
  }
  return result;
}

PerplexityResult summarize_baseline(const TokenScores& baseline, const ScoredWindows& text) {
  const Clusters clusters = Clusters::between(cluster_of_scores(text));
  PerplexityResult result;
  describe_size(text, result);
  result.ppl = compare_losses(baseline.nll, baseline.nll, clusters).perplexity;
  return result;
}

PerplexityResult summarize_candidate(const TokenScores& candidate, const TokenScores& baseline,
                                     const ScoredWindows& text, const ScoreClasses& classes) {
  const std::vector<uint32_t> groups = cluster_of_scores(text);
  const Clusters clusters = Clusters::between(groups);
  const PerplexityComparison comparison = compare_losses(candidate.nll, baseline.nll, clusters);
  PerplexityResult result;
  describe_size(text, result);
  result.ppl = comparison.perplexity;
  result.ratio = comparison.ratio;
  result.log_ratio = comparison.log_ratio;
  result.difference = comparison.difference;
  result.correlation = comparison.correlation;
  result.divergence = diverge(candidate, baseline, text, classes, groups, clusters);
  VerdictInput input = verdict_input(comparison);
  input.n = static_cast<size_t>(text.windows.count);
  if (text.windows_per_cluster > 1) {
    input.clusters = comparison.windows;
    input.cluster_name = "stretches that share no context";
  }
  result.verdict = verdict(input).sentence;
  return result;
}

}  // namespace pare
