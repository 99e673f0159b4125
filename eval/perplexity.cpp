#include "eval/perplexity.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "eval/lockstep.h"
#include "eval/model_heads.h"
#include "eval/top_tokens.h"
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

// What candidates are compared with.
struct BaselineRow {
  LogSoftmaxSums sums;
  std::array<int32_t, kTopTokens> top{};
};

// Working memory of one thread.
struct ScoreScratch {
  LogitsWorkspace baseline;
  LogitsWorkspace candidate;
  std::vector<BaselineRow> rows;  // of the baseline
};

class WindowScorer {
 public:
  WindowScorer(std::span<const EvaluatedModel> models, const ScoredWindows& text,
               const ScoringSetup& setup, std::vector<TokenScores>& scores)
      : models_(models),
        text_(text),
        heads_(load_heads(models, setup.heads, setup.precision)),
        rows_(logit_rows(models[0].graph.vocab_size)),
        scores_(scores) {}

  // `hidden` begins at window `first`.
  void score(int64_t first, int64_t index, const std::vector<std::vector<float>>& hidden,
             ScoreScratch& scratch) const {
    const int64_t window = first + index;
    const ScoredRange range = text_.ranges[static_cast<size_t>(window)];
    // The prediction of a token is at the position before it.
    for (int64_t position = range.begin - 1; position < range.end - 1; position += rows_) {
      const Chunk chunk{window, position, std::min(rows_, range.end - 1 - position)};
      const auto states = [&](size_t m) {
        const int64_t token = index * text_.windows.length + position;
        return hidden[m].data() + token * models_[m].graph.hidden_size;
      };
      const std::span<const float> logits =
          heads_[0].logits(states(0), chunk.rows, scratch.baseline);
      score_baseline(chunk, logits, scratch.rows);
      for (size_t m = 1; m < models_.size(); ++m) {
        score_candidate(m, chunk, logits, scratch.rows,
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
    const auto window = static_cast<size_t>(chunk.window);
    const int64_t token = chunk.position + row + 1;
    return text_.first[window] + static_cast<size_t>(token - text_.ranges[window].begin);
  }

  float loss(size_t m, const Chunk& chunk, int64_t row, std::span<const float> logits,
             double log_sum_exp) const {
    const int64_t next = chunk.window * text_.windows.length + chunk.position + row + 1;
    const auto token = static_cast<size_t>(text_.windows.ids[static_cast<size_t>(next)]);
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
                      std::vector<BaselineRow>& rows) const {
    rows.clear();
    for (int64_t row = 0; row < chunk.rows; ++row) {
      const std::span<const float> values = row_of(logits, row);
      BaselineRow& base = rows.emplace_back();
      base.sums = log_sum_exp(values);
      if (models_.size() > 1) base.top = top_tokens(values);
      scores_[0].nll[score_index(chunk, row)] = loss(0, chunk, row, values, base.sums.log_sum_exp);
    }
  }

  void score_candidate(size_t m, const Chunk& chunk, std::span<const float> base_logits,
                       const std::vector<BaselineRow>& base_rows,
                       std::span<const float> logits) const {
    TokenScores& scores = scores_[m];
    for (int64_t row = 0; row < chunk.rows; ++row) {
      const std::span<const float> values = row_of(logits, row);
      const LogSoftmaxSums sums = log_sum_exp(values);
      const BaselineRow& base = base_rows[static_cast<size_t>(row)];
      const size_t index = score_index(chunk, row);
      scores.nll[index] = loss(m, chunk, row, values, sums.log_sum_exp);
      scores.kl[index] = static_cast<float>(
          kl_divergence(row_of(base_logits, row), base.sums.log_sum_exp, values, sums.log_sum_exp));
      require_finite(scores.kl[index], m, chunk);
      scores.same_top[index] = base.sums.argmax == sums.argmax ? 1 : 0;
      scores.common_top5[index] = static_cast<uint8_t>(common_tokens(base.top, top_tokens(values)));
    }
  }

  std::span<const EvaluatedModel> models_;
  const ScoredWindows& text_;
  std::vector<ModelHead> heads_;
  int64_t rows_;
  std::vector<TokenScores>& scores_;  // each window writes to its own part
};

// The baseline's hidden states after its last layer, kept in pieces that begin at multiples of a
// fixed number of windows: passes differ with the number of candidates.
class BaselineStates {
 public:
  BaselineStates(const EvaluatedModel& baseline, const ScoringSetup& setup, int64_t length)
      : cache_(setup.cache),
        description_(setup.baseline_description),
        window_values_(static_cast<size_t>(length * baseline.graph.hidden_size)) {}

  // All windows from `first` on, or false.
  bool load(int64_t first, int64_t count, std::vector<float>& hidden) {
    if (cache_ == nullptr || !cache_->enabled()) return false;
    std::vector<float> found;
    found.reserve(static_cast<size_t>(count) * window_values_);
    std::vector<float> piece;
    for (int64_t begin = first; begin < first + count; begin = end_of_piece(begin, first + count)) {
      const int64_t end = end_of_piece(begin, first + count);
      piece.resize(static_cast<size_t>(end - begin) * window_values_);
      StateView state;
      state.add(piece);
      if (!cache_->load(describe(begin, end), state)) return false;
      found.insert(found.end(), piece.begin(), piece.end());
    }
    hidden = std::move(found);
    return true;
  }

  void store(int64_t first, int64_t count, const std::vector<float>& hidden) {
    if (cache_ == nullptr || !cache_->enabled()) return;
    std::vector<float> piece;
    for (int64_t begin = first; begin < first + count; begin = end_of_piece(begin, first + count)) {
      const int64_t end = end_of_piece(begin, first + count);
      const auto at = hidden.begin() + (begin - first) * static_cast<int64_t>(window_values_);
      piece.assign(at, at + (end - begin) * static_cast<int64_t>(window_values_));
      StateView state;
      state.add(piece);
      cache_->store(describe(begin, end), state);
    }
  }

 private:
  static constexpr int64_t kWindows = 16;

  static int64_t end_of_piece(int64_t begin, int64_t end) {
    return std::min(end, (begin / kWindows + 1) * kWindows);
  }
  std::string describe(int64_t begin, int64_t end) const {
    return description_ + " windows " + std::to_string(begin) + " to " + std::to_string(end);
  }

  EvaluationCache* cache_;
  const std::string& description_;
  size_t window_values_;
};

}  // namespace

std::vector<TokenScores> allocate_scores(size_t models, size_t count) {
  std::vector<TokenScores> scores(models);
  for (size_t m = 0; m < models; ++m) {
    scores[m].nll.resize(count);
    if (m == 0) continue;
    scores[m].kl.resize(count);
    scores[m].same_top.resize(count);
    scores[m].common_top5.resize(count);
  }
  return scores;
}

std::vector<TokenScores> score_windows(std::span<const EvaluatedModel> models,
                                       const ScoredWindows& text, const ScoringSetup& setup,
                                       ThreadPool& pool, ProgressMeter& meter) {
  const MemoryPlan& plan = setup.plan;
  const TokenWindows& windows = text.windows;
  std::vector<TokenScores> scores = allocate_scores(models.size(), text.scores());
  LockstepRunner runner(models,
                        {.length = windows.length,
                         .source_length = windows.sources.longest(),
                         .precision = setup.precision},
                        pool, meter);
  const int64_t passes = plan.passes();
  const auto windows_of = [&](int64_t pass) {
    return std::min(plan.windows_per_pass, windows.count - pass * plan.windows_per_pass);
  };
  const auto pass_cost = [&](int64_t pass) {
    const int64_t count = windows_of(pass);
    return runner.cost(count) + head_cost(models, count * windows.length);
  };
  double total = 0;
  for (int64_t pass = 0; pass < passes; ++pass) total += pass_cost(pass);
  meter.set_total(total);

  std::vector<std::vector<float>> hidden(models.size());
  // Where to go on: pass, layer, and whether the baseline's hidden states are its last ones
  // already.
  std::vector<int64_t> at = {0, 0, 0};
  StateView state;
  state.add(at);
  state.add(runner.clamps());
  for (size_t m = 0; m < models.size(); ++m) {
    state.add(scores[m].nll);
    state.add(scores[m].kl);
    state.add(scores[m].same_top);
    state.add(scores[m].common_top5);
    state.add_any(hidden[m]);
  }
  const auto save = [&] {
    if (setup.checkpointer != nullptr) setup.checkpointer->save_if_due(state);
  };
  if (setup.checkpointer != nullptr) setup.checkpointer->restore(state);

  BaselineStates baseline(models[0], setup, windows.length);
  std::vector<ScoreScratch> scratch(pool.size());
  for (int64_t pass = 0; pass < passes; ++pass) {
    if (pass < at[0]) {
      meter.advance(pass_cost(pass));
      continue;
    }
    const int64_t first = pass * plan.windows_per_pass;
    const int64_t count = windows_of(pass);
    const std::string prefix = pass_prefix(pass + 1, passes);
    if (at[1] == 0) at[2] = baseline.load(first, count, hidden[0]) ? 1 : 0;
    const bool known = at[2] != 0;
    runner.run(
        windows, first, count, prefix, hidden,
        {.first = static_cast<size_t>(at[1]), .has_first = known, .after = [&](size_t layer) {
           at[1] = static_cast<int64_t>(layer) + 1;
           save();
         }});
    if (!known && runner.clamps()[0].values == 0) baseline.store(first, count, hidden[0]);
    meter.phase("evaluate", prefix + "output head");
    const WindowScorer scorer(models, text, setup, scores);
    for_each_window(pool, meter, count, head_cost(models, windows.length),
                    [&](int64_t window, size_t worker) {
                      scorer.score(first, window, hidden, scratch[worker]);
                    });
    at = {pass + 1, 0, 0};
    for (std::vector<float>& states : hidden) states.clear();
    save();
  }
  for (size_t m = 0; m < models.size(); ++m) scores[m].clamps = runner.clamps()[m];
  return scores;
}

}  // namespace pare
