#include "eval/choice_scores.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "eval/lockstep.h"
#include "eval/memory_plan.h"
#include "eval/model_heads.h"
#include "eval/prompt_runner.h"
#include "kernels/vector_math.h"
#include "pare/error.h"

namespace pare {
namespace {

// What the rows of one stem or of one unit take in a pass.
class PassBytes {
 public:
  PassBytes(std::span<const EvaluatedModel> models, Precision precision) {
    for (const EvaluatedModel& model : models) {
      int64_t of_experts = 0;
      for (const BlockGraph& block : model.graph.blocks) {
        // Keys and values grow with a stem, states of scans do not.
        const int64_t one = SequenceState::memory_bytes(block, 1, 1, precision);
        const int64_t grown = SequenceState::memory_bytes(block, 2, 1, precision) - one;
        stem_cache_ = std::max(stem_cache_, grown);
        stem_state_ = std::max(stem_state_, one - grown);
        of_experts = std::max(of_experts, ExpertRows::memory_bytes(block, 1));
      }
      row_ += model.graph.hidden_size * 4 + of_experts;
    }
  }
  int64_t of_unit(const PromptUnit& unit) const {
    return static_cast<int64_t>(unit.ids.size()) * row_;
  }
  // Keys and values are those of the one layer that runs.
  int64_t of_stem(const std::vector<int32_t>& stem) const {
    return static_cast<int64_t>(stem.size()) * (row_ + stem_cache_) + stem_state_;
  }

 private:
  int64_t row_ = 0;
  int64_t stem_cache_ = 0;  // of one token
  int64_t stem_state_ = 0;
};

// Units that run together: as many as fit, at least one. Their stems run again in each pass that
// uses them, so `first` … `end` grows by whole units in the plan's order.
size_t end_of_pass(const PassBytes& needed, const PromptPlan& plan, size_t first,
                   int64_t pass_bytes) {
  int64_t bytes = 0;
  size_t end = first;
  while (end < plan.units.size()) {
    const PromptUnit& unit = plan.units[end];
    const bool new_stem = end == first || plan.units[end - 1].stem != unit.stem;
    bytes += needed.of_unit(unit) + (new_stem ? needed.of_stem(plan.stems[unit.stem]) : 0);
    if (bytes > pass_bytes && end > first) break;
    ++end;
  }
  return end;
}

// Characters of UTF-8 text without its leading space, as lm-eval's acc_norm counts them; at
// least 1.
int64_t characters(std::string_view text) {
  if (text.starts_with(' ')) text.remove_prefix(1);
  return std::max<int64_t>(1, std::count_if(text.begin(), text.end(), [](char c) {
                             return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U;
                           }));
}

class UnitScorer {
 public:
  UnitScorer(std::span<const EvaluatedModel> models, const ChoiceSetup& setup,
             std::vector<ChoiceScores>& scores)
      : models_(models),
        heads_(load_heads(models, setup.heads, setup.precision)),
        rows_(logit_rows(models[0].graph.vocab_size)),
        scores_(scores) {}

  // hidden[model] begins at the unit's first row.
  void score(const PromptUnit& unit, size_t m, const float* hidden, LogitsWorkspace& workspace,
             std::vector<float>& gathered) const {
    const int64_t width = models_[m].graph.hidden_size;
    const auto vocab = static_cast<size_t>(models_[m].graph.vocab_size);
    for (size_t begin = 0; begin < unit.scored.size(); begin += static_cast<size_t>(rows_)) {
      const size_t count = std::min(static_cast<size_t>(rows_), unit.scored.size() - begin);
      gathered.resize(count * static_cast<size_t>(width));
      for (size_t i = 0; i < count; ++i) {
        std::copy_n(hidden + unit.scored[begin + i].row * width, width,
                    gathered.begin() + static_cast<ptrdiff_t>(i) * width);
      }
      const std::span<const float> logits =
          heads_[m].logits(gathered.data(), static_cast<int64_t>(count), workspace);
      for (size_t i = 0; i < count; ++i) {
        score_row(unit.scored[begin + i], m, logits.subspan(i * vocab, vocab));
      }
    }
  }

 private:
  void score_row(const ScoredRow& row, size_t m, std::span<const float> logits) const {
    const LogSoftmaxSums sums = log_sum_exp(logits);
    ChoiceScores& scores = scores_[m];
    for (size_t i = 0; i < row.tokens.size(); ++i) {
      const auto token = static_cast<size_t>(row.tokens[i]);
      const double value = static_cast<double>(logits[token]) - sums.log_sum_exp;
      if (!std::isfinite(value)) {
        throw Error(ErrorCode::kNonFinite,
                    models_[m].source->path() +
                        ": NaN or infinity in the logits; the weights or scales are unusable");
      }
      const size_t choice = row.choices[i];
      scores.log_likelihood[choice] += value;
      ++scores.tokens[choice];
      if (static_cast<size_t>(sums.argmax) != token) scores.greedy[choice] = 0;
    }
  }

  std::span<const EvaluatedModel> models_;
  std::vector<ModelHead> heads_;
  int64_t rows_;
  std::vector<ChoiceScores>& scores_;  // each unit writes to its own choices
};

}  // namespace

int64_t least_pass_bytes(std::span<const EvaluatedModel> models, const PromptPlan& plan,
                         Precision precision) {
  const PassBytes needed(models, precision);
  int64_t least = 0;
  for (const PromptUnit& unit : plan.units) {
    least = std::max(least, needed.of_unit(unit) + needed.of_stem(plan.stems[unit.stem]));
  }
  return least;
}

std::vector<ChoiceScores> score_choices(std::span<const EvaluatedModel> models,
                                        const PromptPlan& plan, const ChoiceSetup& setup,
                                        ThreadPool& pool, ProgressMeter& meter) {
  std::vector<ChoiceScores> scores(models.size());
  for (ChoiceScores& one : scores) {
    one.log_likelihood.resize(plan.choices);
    one.tokens.resize(plan.choices);
    one.greedy.assign(plan.choices, 1);
  }
  PromptRunner runner(models, setup.precision, pool, meter);
  const PassBytes needed(models, setup.precision);
  std::vector<size_t> passes = {0};
  double total = 0;
  while (passes.back() < plan.units.size()) {
    const size_t first = passes.back();
    passes.push_back(end_of_pass(needed, plan, first, setup.pass_bytes));
    total += runner.cost(plan, first, passes.back() - first);
  }
  meter.set_total(total);

  PromptStates hidden{.stems = std::vector<std::vector<float>>(models.size()),
                      .units = std::vector<std::vector<float>>(models.size())};
  std::vector<size_t> at = {0, 0};  // pass and layer to go on with
  StateView state;
  state.add(at);
  state.add(runner.clamps());
  for (size_t m = 0; m < models.size(); ++m) {
    state.add(scores[m].log_likelihood);
    state.add(scores[m].tokens);
    state.add(scores[m].greedy);
    state.add_any(hidden.stems[m]);
    state.add_any(hidden.units[m]);
  }
  const auto save = [&] {
    if (setup.checkpointer != nullptr) setup.checkpointer->save_if_due(state);
  };
  if (setup.checkpointer != nullptr) setup.checkpointer->restore(state);

  std::vector<LogitsWorkspace> workspaces(pool.size());
  std::vector<std::vector<float>> gathered(pool.size());
  for (size_t pass = 0; pass + 1 < passes.size(); ++pass) {
    const size_t first = passes[pass];
    const size_t count = passes[pass + 1] - first;
    if (pass < at[0]) {
      meter.advance(runner.cost(plan, first, count));
      continue;
    }
    const std::string prefix =
        pass_prefix(static_cast<int64_t>(pass) + 1, static_cast<int64_t>(passes.size()) - 1);
    runner.run(plan, first, count, prefix, hidden, {.first = at[1], .after = [&](size_t layer) {
                                                      at[1] = layer + 1;
                                                      save();
                                                    }});
    meter.phase("evaluate", prefix + "output head");
    std::vector<int64_t> begin = {0};
    for (size_t u = first; u < first + count; ++u) {
      begin.push_back(begin.back() + static_cast<int64_t>(plan.units[u].ids.size()));
    }
    const UnitScorer scorer(models, setup, scores);
    for (size_t m = 0; m < models.size(); ++m) {
      meter.check_cancelled();
      pool.parallel_for(count, [&](size_t u, size_t worker) {
        scorer.score(plan.units[first + u], m,
                     hidden.units[m].data() + begin[u] * models[m].graph.hidden_size,
                     workspaces[worker], gathered[worker]);
      });
    }
    at = {pass + 1, 0};
    for (size_t m = 0; m < models.size(); ++m) {
      hidden.stems[m].clear();
      hidden.units[m].clear();
    }
    save();
  }
  for (size_t m = 0; m < models.size(); ++m) scores[m].clamps = runner.clamps()[m];
  return scores;
}

std::vector<ItemResult> decide(const Task& task, const PromptPlan& plan,
                               const ChoiceScores& scores) {
  std::vector<ItemResult> results;
  results.reserve(plan.items.size());
  for (const PlannedItem& planned : plan.items) {
    const TaskItem& item = task.groups[planned.group].items[planned.item];
    ItemResult result;
    double best = -HUGE_VAL;
    for (size_t c = 0; c < item.choices.size(); ++c) {
      double value = scores.log_likelihood[planned.first_choice + c];
      if (task.scoring == ChoiceScoring::kPerCharacter) {
        value /= static_cast<double>(characters(item.choices[c].continuation));
      }
      if (value > best) {
        best = value;
        result.prediction = static_cast<int64_t>(c);
      }
    }
    result.correct = task.scoring == ChoiceScoring::kGreedy
                         ? scores.greedy[planned.first_choice] != 0
                         : result.prediction == item.answer;
    results.push_back(result);
  }
  return results;
}

}  // namespace pare
