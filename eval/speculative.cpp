#include "eval/speculative.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "eval/lockstep.h"
#include "eval/model_heads.h"
#include "kernels/vector_math.h"
#include "pare/error.h"

namespace pare {
namespace {

// In multiplications: log-softmax of a logit, and the comparison of two.
constexpr double kCostPerLogit = 20;
constexpr double kCostPerComparison = 30;

int64_t largest_vocabulary(std::span<const EvaluatedModel> models) {
  int64_t largest = 0;
  for (const EvaluatedModel& model : models) largest = std::max(largest, model.graph.vocab_size);
  return largest;
}

double head_cost(std::span<const EvaluatedModel> models, std::span<const ModelPair> pairs,
                 int64_t tokens) {
  double each = 0;
  for (const EvaluatedModel& model : models) {
    each += static_cast<double>(model.graph.vocab_size) *
            (static_cast<double>(model.graph.hidden_size) + kCostPerLogit);
  }
  each += static_cast<double>(pairs.size()) * static_cast<double>(largest_vocabulary(models)) *
          kCostPerComparison;
  return each * static_cast<double>(tokens);
}

// Logits of a few positions of one model, at the temperature of sampling.
struct ModelRows {
  LogitsWorkspace workspace;
  std::vector<double> log_sum_exp;
  std::vector<int64_t> argmax;
};

// Makes logits / temperature, less a constant that changes no probability: what is small near the
// maximum keeps its precision at low temperatures.
void apply_temperature(std::span<float> logits, float max, float inverse_temperature) {
  for (float& logit : logits) logit = (logit - max) * inverse_temperature;
}

class PairScorer {
 public:
  PairScorer(std::span<const EvaluatedModel> models, std::span<const ModelPair> pairs,
             const TokenWindows& windows, const PairSetup& setup, std::vector<PairScores>& scores)
      : models_(models),
        pairs_(pairs),
        windows_(windows),
        temperature_(setup.temperature),
        heads_(load_heads(models, setup.heads, setup.precision)),
        rows_(logit_rows(largest_vocabulary(models))),
        scores_(scores) {}

  // `hidden` begins at window `first`; `rows` is working memory of one thread.
  void score(int64_t first, int64_t index, const std::vector<std::vector<float>>& hidden,
             std::vector<ModelRows>& rows) const {
    const int64_t scored = windows_.length - 1;
    rows.resize(models_.size());
    for (int64_t position = 0; position < scored; position += rows_) {
      const int64_t count = std::min(rows_, scored - position);
      for (size_t m = 0; m < models_.size(); ++m) {
        const int64_t token = index * windows_.length + position;
        heads_[m].logits(hidden[m].data() + token * models_[m].graph.hidden_size, count,
                         rows[m].workspace);
        normalise(m, first + index, count, rows[m]);
      }
      const auto at = static_cast<size_t>((first + index) * scored + position);
      for (size_t p = 0; p < pairs_.size(); ++p) compare(p, at, count, rows);
    }
  }

 private:
  std::span<float> row_of(ModelRows& rows, size_t m, int64_t row) const {
    const auto vocab = static_cast<size_t>(models_[m].graph.vocab_size);
    return std::span(rows.workspace.logits).subspan(static_cast<size_t>(row) * vocab, vocab);
  }

  void normalise(size_t m, int64_t window, int64_t count, ModelRows& rows) const {
    rows.log_sum_exp.clear();
    rows.argmax.clear();
    for (int64_t row = 0; row < count; ++row) {
      const std::span<float> logits = row_of(rows, m, row);
      LogSoftmaxSums sums = log_sum_exp(logits);
      if (!std::isfinite(sums.log_sum_exp)) {
        throw Error(ErrorCode::kNonFinite, models_[m].source->path() +
                                               ": NaN or infinity in window " +
                                               std::to_string(window) +
                                               " of the text; the weights or scales are unusable");
      }
      rows.argmax.push_back(sums.argmax);
      if (temperature_ != 1) {
        apply_temperature(logits, sums.max, static_cast<float>(1 / temperature_));
        sums = log_sum_exp(logits);
      }
      rows.log_sum_exp.push_back(sums.log_sum_exp);
    }
  }

  void compare(size_t p, size_t at, int64_t count, std::vector<ModelRows>& rows) const {
    ModelRows& target = rows[pairs_[p].target];
    ModelRows& draft = rows[pairs_[p].draft];
    for (int64_t row = 0; row < count; ++row) {
      const auto r = static_cast<size_t>(row);
      scores_[p].sampling[at + r] = static_cast<float>(
          acceptance_probability(row_of(target, pairs_[p].target, row), target.log_sum_exp[r],
                                 row_of(draft, pairs_[p].draft, row), draft.log_sum_exp[r]));
      scores_[p].greedy[at + r] = target.argmax[r] == draft.argmax[r] ? 1.0F : 0.0F;
    }
  }

  std::span<const EvaluatedModel> models_;
  std::span<const ModelPair> pairs_;
  const TokenWindows& windows_;
  double temperature_;
  std::vector<ModelHead> heads_;
  int64_t rows_;
  std::vector<PairScores>& scores_;  // each window writes to its own part
};

}  // namespace

double acceptance_probability(std::span<const float> target, double target_log_sum_exp,
                              std::span<const float> draft, double draft_log_sum_exp) {
  // 1 − Σ max(p_target − p_draft, 0) rather than the sum of minima, because nothing is lost to
  // rounding where the models agree.
  const size_t common = std::min(target.size(), draft.size());
  double rejected = excess_probability(target.first(common), target_log_sum_exp,
                                       draft.first(common), draft_log_sum_exp);
  if (target.size() > common) {
    rejected += std::exp(log_sum_exp(target.subspan(common)).log_sum_exp - target_log_sum_exp);
  }
  return std::clamp(1 - rejected, 0.0, 1.0);
}

std::vector<PairScores> score_pairs(std::span<const EvaluatedModel> models,
                                    std::span<const ModelPair> pairs, const TokenWindows& windows,
                                    const PairSetup& setup, ThreadPool& pool, ProgressMeter& meter,
                                    std::vector<ClampCount>& clamps) {
  const auto positions = static_cast<size_t>(windows.count * (windows.length - 1));
  std::vector<PairScores> scores(pairs.size());
  for (PairScores& pair : scores) {
    pair.sampling.resize(positions);
    pair.greedy.resize(positions);
  }
  LockstepRunner runner(models, {.length = windows.length, .precision = setup.precision}, pool,
                        meter);
  const MemoryPlan& plan = setup.plan;
  const int64_t passes = plan.passes();
  const auto windows_of = [&](int64_t pass) {
    return std::min(plan.windows_per_pass, windows.count - pass * plan.windows_per_pass);
  };
  double total = head_cost(models, pairs, windows.count * windows.length);
  for (int64_t pass = 0; pass < passes; ++pass) total += runner.cost(windows_of(pass));
  meter.set_total(total);

  std::vector<std::vector<ModelRows>> rows(pool.size());
  std::vector<std::vector<float>> hidden;
  for (int64_t pass = 0; pass < passes; ++pass) {
    const int64_t first = pass * plan.windows_per_pass;
    const int64_t count = windows_of(pass);
    const std::string prefix = pass_prefix(pass + 1, passes);
    runner.run(windows, first, count, prefix, hidden);
    meter.phase("evaluate", prefix + "output head");
    const PairScorer scorer(models, pairs, windows, setup, scores);
    for_each_window(
        pool, meter, count, head_cost(models, pairs, windows.length),
        [&](int64_t window, size_t worker) { scorer.score(first, window, hidden, rows[worker]); });
  }
  for (size_t m = 0; m < models.size(); ++m) clamps[m].add(runner.clamps()[m]);
  return scores;
}

int64_t pair_scoring_bytes(std::span<const EvaluatedModel> models, size_t pairs,
                           const WorkShape& shape) {
  const int64_t rows = logit_rows(largest_vocabulary(models));
  int64_t logits = 0;
  for (const EvaluatedModel& model : models) {
    logits += rows * (4 * model.graph.vocab_size + 24 * model.graph.hidden_size);
  }
  const auto values = 2 * static_cast<int64_t>(pairs) * shape.windows * shape.length;
  return shape.threads * logits + values * static_cast<int64_t>(sizeof(float));
}

}  // namespace pare
