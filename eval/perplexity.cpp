#include "eval/perplexity.h"

#include <algorithm>
#include <cmath>

#include "eval/lockstep.h"
#include "eval/model_heads.h"
#include "eval/statistics.h"
#include "kernels/vector_math.h"
#include "pare/error.h"

namespace pare {
namespace {

// Log-softmax and divergence of one logit, in multiplications.
constexpr double kCostPerLogit = 40;

double head_cost(std::span<const EvaluatedModel> models, int64_t tokens) {
  double total = 0;
  for (const EvaluatedModel& model : models) {
    total += static_cast<double>(tokens * model.graph.vocab_size) *
             (static_cast<double>(model.graph.hidden_size) + kCostPerLogit);
  }
  return total;
}

// Working memory of one thread.
struct ScoreScratch {
  LogitsWorkspace baseline;
  LogitsWorkspace candidate;
  std::vector<LogSoftmaxSums> sums;  // of the baseline's rows
};

class WindowScorer {
 public:
  WindowScorer(std::span<const EvaluatedModel> models, const TokenWindows& windows,
               const ScoringSetup& setup, std::vector<TokenScores>& scores)
      : models_(models),
        windows_(windows),
        heads_(load_heads(models, setup.heads, setup.precision)),
        rows_(logit_rows(models[0].graph.vocab_size)),
        scores_(scores) {}

  // `hidden` begins at window `first`.
  void score(int64_t first, int64_t index, const std::vector<std::vector<float>>& hidden,
             ScoreScratch& scratch) const {
    const int64_t scored = windows_.length - 1;
    for (int64_t position = 0; position < scored; position += rows_) {
      const Chunk chunk{first + index, position, std::min(rows_, scored - position)};
      const auto states = [&](size_t m) {
        const int64_t token = index * windows_.length + position;
        return hidden[m].data() + token * models_[m].graph.hidden_size;
      };
      const std::span<const float> logits =
          heads_[0].logits(states(0), chunk.rows, scratch.baseline);
      score_baseline(chunk, logits, scratch.sums);
      for (size_t m = 1; m < models_.size(); ++m) {
        score_candidate(m, chunk, logits, scratch.sums,
                        heads_[m].logits(states(m), chunk.rows, scratch.candidate));
      }
    }
  }

 private:
  struct Chunk {
    int64_t window = 0;
    int64_t position = 0;
    int64_t rows = 0;
  };

  std::span<const float> row_of(std::span<const float> logits, int64_t row) const {
    const auto vocab = static_cast<size_t>(models_[0].graph.vocab_size);
    return logits.subspan(static_cast<size_t>(row) * vocab, vocab);
  }

  size_t score_index(const Chunk& chunk, int64_t row) const {
    return static_cast<size_t>(chunk.window * (windows_.length - 1) + chunk.position + row);
  }

  float loss(size_t m, const Chunk& chunk, int64_t row, std::span<const float> logits,
             double log_sum_exp) const {
    const int64_t next = chunk.window * windows_.length + chunk.position + row + 1;
    const auto token = static_cast<size_t>(windows_.ids[static_cast<size_t>(next)]);
    const auto nll = static_cast<float>(log_sum_exp - static_cast<double>(logits[token]));
    require_finite(nll, m, chunk);
    return nll;
  }

  void require_finite(float value, size_t m, const Chunk& chunk) const {
    if (std::isfinite(value)) return;
    throw Error(ErrorCode::kNonFinite, models_[m].source->path() + ": NaN or infinity in window " +
                                           std::to_string(chunk.window) +
                                           " of the text; the weights or scales are unusable");
  }

  void score_baseline(const Chunk& chunk, std::span<const float> logits,
                      std::vector<LogSoftmaxSums>& sums) const {
    sums.clear();
    for (int64_t row = 0; row < chunk.rows; ++row) {
      const std::span<const float> values = row_of(logits, row);
      sums.push_back(log_sum_exp(values));
      scores_[0].nll[score_index(chunk, row)] =
          loss(0, chunk, row, values, sums.back().log_sum_exp);
    }
  }

  void score_candidate(size_t m, const Chunk& chunk, std::span<const float> base_logits,
                       const std::vector<LogSoftmaxSums>& base_sums,
                       std::span<const float> logits) const {
    TokenScores& scores = scores_[m];
    for (int64_t row = 0; row < chunk.rows; ++row) {
      const std::span<const float> values = row_of(logits, row);
      const LogSoftmaxSums sums = log_sum_exp(values);
      const LogSoftmaxSums& base = base_sums[static_cast<size_t>(row)];
      const size_t index = score_index(chunk, row);
      scores.nll[index] = loss(m, chunk, row, values, sums.log_sum_exp);
      scores.kl[index] = static_cast<float>(
          kl_divergence(row_of(base_logits, row), base.log_sum_exp, values, sums.log_sum_exp));
      require_finite(scores.kl[index], m, chunk);
      scores.agrees[index] = base.argmax == sums.argmax ? 1 : 0;
    }
  }

  std::span<const EvaluatedModel> models_;
  const TokenWindows& windows_;
  std::vector<ModelHead> heads_;
  int64_t rows_;
  std::vector<TokenScores>& scores_;  // each window writes to its own part
};

std::vector<TokenScores> allocate_scores(size_t models, const TokenWindows& windows) {
  const auto count = static_cast<size_t>(windows.count * (windows.length - 1));
  std::vector<TokenScores> scores(models);
  for (size_t m = 0; m < models; ++m) {
    scores[m].nll.resize(count);
    if (m == 0) continue;
    scores[m].kl.resize(count);
    scores[m].agrees.resize(count);
  }
  return scores;
}

}  // namespace

std::vector<TokenScores> score_windows(std::span<const EvaluatedModel> models,
                                       const TokenWindows& windows, const ScoringSetup& setup,
                                       ThreadPool& pool, ProgressMeter& meter) {
  const MemoryPlan& plan = setup.plan;
  std::vector<TokenScores> scores = allocate_scores(models.size(), windows);
  LockstepRunner runner(models, {.length = windows.length, .precision = setup.precision}, pool,
                        meter);
  const int64_t passes = plan.passes();
  double total = 0;
  for (int64_t pass = 0; pass < passes; ++pass) {
    const int64_t first = pass * plan.windows_per_pass;
    const int64_t count = std::min(plan.windows_per_pass, windows.count - first);
    total += runner.cost(count) + head_cost(models, count * windows.length);
  }
  meter.set_total(total);

  std::vector<ScoreScratch> scratch(pool.size());
  std::vector<std::vector<float>> hidden;
  for (int64_t pass = 0; pass < passes; ++pass) {
    const int64_t first = pass * plan.windows_per_pass;
    const int64_t count = std::min(plan.windows_per_pass, windows.count - first);
    const std::string prefix = pass_prefix(pass + 1, passes);
    const auto length = static_cast<size_t>(windows.length);
    runner.run(
        std::span<const int32_t>(windows.ids)
            .subspan(static_cast<size_t>(first) * length, static_cast<size_t>(count) * length),
        prefix, hidden);
    meter.phase("evaluate", prefix + "output head");
    const WindowScorer scorer(models, windows, setup, scores);
    for_each_window(pool, meter, count, head_cost(models, windows.length),
                    [&](int64_t window, size_t worker) {
                      scorer.score(first, window, hidden, scratch[worker]);
                    });
  }
  for (size_t m = 0; m < models.size(); ++m) scores[m].clamps = runner.clamps()[m];
  return scores;
}

PerplexityResult summarize(const TokenScores& baseline, const TokenWindows& windows) {
  const auto scored = static_cast<size_t>(windows.length - 1);
  PerplexityResult result;
  const Estimate nll = clustered_mean(baseline.nll, scored);
  result.ppl = std::exp(nll.mean);
  result.ppl_se = result.ppl * nll.standard_error;
  result.tokens = static_cast<int64_t>(baseline.nll.size());
  result.windows = windows.count;
  return result;
}

PerplexityResult summarize(const TokenScores& candidate, const TokenScores& baseline,
                           const TokenWindows& windows) {
  const auto scored = static_cast<size_t>(windows.length - 1);
  PerplexityResult result = summarize(candidate, windows);
  const Estimate difference = paired_difference(candidate.nll, baseline.nll, scored);
  result.ppl_ratio = std::exp(difference.mean);
  result.ppl_ratio_se = result.ppl_ratio * difference.standard_error;

  const Estimate kl = clustered_mean(candidate.kl, scored);
  result.kl_mean = kl.mean;
  result.kl_mean_se = kl.standard_error;
  std::vector<float> sorted = candidate.kl;
  std::sort(sorted.begin(), sorted.end());
  result.kl_median = quantile(sorted, 0.5);
  result.kl_p99 = quantile(sorted, 0.99);
  result.kl_max = static_cast<double>(sorted.back());

  const std::vector<float> agrees(candidate.agrees.begin(), candidate.agrees.end());
  const Estimate agreement = clustered_mean(agrees, scored);
  result.top1_agreement = agreement.mean;
  result.top1_agreement_se = agreement.standard_error;
  return result;
}

std::string describe_method(const TokenWindows& windows, std::span<const int32_t> bos) {
  std::string begin = "no BOS token";
  if (!bos.empty()) {
    const auto count = std::count_if(windows.ids.begin(), windows.ids.end(), [&](int32_t id) {
      return std::find(bos.begin(), bos.end(), id) != bos.end();
    });
    const bool starts = std::find(bos.begin(), bos.end(), windows.ids[0]) != bos.end();
    begin = !starts      ? "no BOS at the start"
            : count == 1 ? "BOS once"
                         : "BOS " + std::to_string(count) + " times";
  }
  const std::string length = std::to_string(windows.length);
  return "wikitext-style windows: ctx " + length + ", stride " + length + ", tail dropped, " +
         begin + ", positions 1…" + std::to_string(windows.length - 1) + " scored";
}

}  // namespace pare
