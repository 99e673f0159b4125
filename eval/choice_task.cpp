#include "eval/choice_task.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "calib/token_check.h"
#include "calib/token_source.h"
#include "eval/choice_scores.h"
#include "eval/intervals.h"
#include "eval/memory_plan.h"
#include "eval/model_limits.h"
#include "eval/prompts.h"
#include "eval/tasks/task.h"
#include "eval/verdict.h"
#include "pare/error.h"

namespace pare {
namespace {

Accuracy accuracy_of(int64_t right, int64_t n) {
  Accuracy accuracy;
  accuracy.n = n;
  accuracy.right = right;
  accuracy.value = n == 0 ? 0 : static_cast<double>(right) / static_cast<double>(n);
  const Interval interval = wilson_interval(static_cast<size_t>(right), static_cast<size_t>(n));
  accuracy.lower = interval.lower;
  accuracy.upper = interval.upper;
  return accuracy;
}

// Right answers by any key, in order of first appearance.
class Tally {
 public:
  void add(const std::string& key, bool right) {
    const auto [found, is_new] = index_.try_emplace(key, counts_.size());
    if (is_new) counts_.push_back({key, {0, 0}});
    auto& [count, rights] = counts_[found->second].second;
    ++count;
    rights += right ? 1 : 0;
  }

  std::vector<std::pair<std::string, Accuracy>> accuracies() const {
    std::vector<std::pair<std::string, Accuracy>> result;
    for (const auto& [key, count] : counts_) {
      result.emplace_back(key, accuracy_of(count.second, count.first));
    }
    return result;
  }

 private:
  std::map<std::string, size_t> index_;
  std::vector<std::pair<std::string, std::pair<int64_t, int64_t>>> counts_;
};

// Of each question's word.
std::vector<double> target_losses(const PromptPlan& plan, const ChoiceScores& scores) {
  std::vector<double> losses;
  for (const PlannedItem& item : plan.items) {
    losses.push_back(0 - scores.log_likelihood[item.first_choice]);
  }
  return losses;
}

ChoiceResult summarize(const Task& task, const PromptPlan& plan,
                       const std::vector<ItemResult>& items, const ChoiceScores& scores) {
  ChoiceResult result;
  Tally groups;
  Tally categories;
  int64_t right = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    const TaskGroup& group = task.groups[plan.items[i].group];
    right += items[i].correct ? 1 : 0;
    groups.add(group.name, items[i].correct);
    if (!group.category.empty()) categories.add(group.category, items[i].correct);
  }
  result.accuracy = accuracy_of(right, static_cast<int64_t>(items.size()));
  result.groups = groups.accuracies();
  result.categories = categories.accuracies();
  if (task.scoring == ChoiceScoring::kGreedy) {
    const std::vector<double> losses = target_losses(plan, scores);
    result.target_ppl = compare_perplexity(losses, losses).perplexity;
  }
  return result;
}

void compare(const Task& task, const PromptPlan& plan, const std::vector<ItemResult>& items,
             const std::vector<ItemResult>& base, const ChoiceScores& scores,
             const ChoiceScores& base_scores, ChoiceResult& result) {
  std::vector<uint8_t> right;
  std::vector<uint8_t> base_right;
  std::vector<uint32_t> subjects;
  for (size_t i = 0; i < items.size(); ++i) {
    right.push_back(items[i].correct ? 1 : 0);
    base_right.push_back(base[i].correct ? 1 : 0);
    subjects.push_back(static_cast<uint32_t>(plan.items[i].group));
  }
  const AccuracyComparison comparison =
      compare_accuracy(right, base_right, Clusters::by_group(subjects));
  result.difference = comparison.difference;
  result.relative_loss = {0 - comparison.relative.value, comparison.relative.standard_error, {}};
  if (const auto& change = comparison.relative.interval) {
    // Nothing can lose more than all.
    result.relative_loss.interval = Interval{0 - change->upper, std::min(1.0, 0 - change->lower)};
  }
  result.lost = static_cast<int64_t>(comparison.lost);
  result.gained = static_cast<int64_t>(comparison.gained);
  result.mcnemar_p = comparison.mcnemar_p;
  VerdictInput input = verdict_input(comparison, EffectUnit::kPercentagePoints);
  if (scores.log_likelihood == base_scores.log_likelihood) {
    // The same model, as far as these questions can tell: nothing is left to chance.
    result.difference.interval = result.relative_loss.interval = input.interval = Interval{0, 0};
  }
  result.verdict = verdict(input).sentence;
  if (task.scoring == ChoiceScoring::kGreedy) {
    result.target_ppl_ratio =
        compare_perplexity(target_losses(plan, scores), target_losses(plan, base_scores)).ratio;
  }
}

std::string describe_method(const Task& task, int64_t shots) {
  const char* scoring = "right when it has the largest sum of the choice's log-probabilities";
  if (task.scoring == ChoiceScoring::kPerCharacter) {
    scoring = "right when it has the largest mean log-probability a character of the choice";
  } else if (task.scoring == ChoiceScoring::kGreedy) {
    scoring = "right when each token of the last word is the most likely one";
  }
  return std::to_string(shots) + "-shot, " + scoring;
}

std::string samples_jsonl(const Task& task, const PromptPlan& plan,
                          std::span<const EvaluatedModel> models,
                          const std::vector<ChoiceScores>& scores,
                          const std::vector<std::vector<ItemResult>>& items) {
  std::string text;
  for (size_t i = 0; i < plan.items.size(); ++i) {
    const PlannedItem& planned = plan.items[i];
    const TaskGroup& group = task.groups[planned.group];
    const TaskItem& item = group.items[planned.item];
    nlohmann::json line = {{"task", task.name},
                           {"group", group.name},
                           {"row", item.row},
                           {"shots", planned.shots},
                           {"prompt_tokens", planned.prompt_tokens},
                           {"answer", item.answer},
                           {"models", nlohmann::json::object()}};
    for (size_t m = 0; m < models.size(); ++m) {
      const auto begin =
          scores[m].log_likelihood.begin() + static_cast<ptrdiff_t>(planned.first_choice);
      line["models"][std::to_string(m) + ":" + models[m].name] = {
          {"prediction", items[m][i].prediction},
          {"right", items[m][i].correct},
          {"log_likelihoods",
           std::vector<double>(begin, begin + static_cast<ptrdiff_t>(item.choices.size()))}};
    }
    text += line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  }
  return text;
}

// Empty for a custom task, which is named by its file.
std::string data_path(const std::string& name, const EvaluateOptions& options) {
  if (name.ends_with(".jsonl")) return "";
  const auto data = options.task_data.find(name);
  if (data != options.task_data.end()) return data->second;
  throw Error(ErrorCode::kUsage, "task " + name + " needs its questions: give --task_data " + name +
                                     "=PATH" + (name == "mmlu" ? " or --mmlu_dir DIR" : ""));
}

// Bytes for what grows with the questions of a pass, after all that does not.
int64_t pass_bytes_of(std::span<const EvaluatedModel> models, const PromptPlan& plan,
                      std::span<const size_t> heads, Precision precision, int64_t threads,
                      int64_t limit) {
  if (limit == 0) return ChoiceSetup{}.pass_bytes;
  int64_t length = plan.longest;
  int64_t results = 0;
  for (const PromptUnit& unit : plan.units) {
    length = std::max(length, static_cast<int64_t>(unit.ids.size()));
    results += static_cast<int64_t>(unit.scored.size() * sizeof(ScoredRow));
  }
  constexpr int64_t kChoiceBytes = 64;  // of a model: scores and their copies
  results += static_cast<int64_t>(plan.choices * models.size()) * kChoiceBytes;
  // Texts and ids of questions and prompts are held more than once.
  constexpr int64_t kPromptTokenBytes = 16;
  const MemoryPlan memory = plan_memory(models, heads, precision,
                                        {.windows = 1,
                                         .length = length,
                                         .threads = threads,
                                         .text_tokens = plan.tokens,
                                         .extra_bytes = results + kPromptTokenBytes * plan.tokens},
                                        0);
  const int64_t least = least_pass_bytes(models, plan, precision);
  if (memory.fixed_bytes + least > limit) {
    throw Error(ErrorCode::kLimitExceeded,
                "these questions need " + std::to_string(memory.fixed_bytes + least) +
                    " bytes of memory, the limit is " + std::to_string(limit) +
                    ": raise it, or take fewer threads");
  }
  return limit - memory.fixed_bytes;
}

void view(ChoiceScores& scores, std::vector<ClampCount>& clamps, StateView& state) {
  state.add(scores.log_likelihood);
  state.add(scores.tokens);
  state.add(scores.greedy);
  state.add(clamps);
}

// Of all models; those that an earlier run has scored are not run again.
std::vector<ChoiceScores> scores_of(const ChoiceTask& task, const TaskContext& context) {
  const PromptPlan& plan = task.plan;
  const std::string more = std::to_string(plan.choices) + " choices" +
                           (context.options.reuse_prefix ? "" : ", whole prompts");
  std::vector<ChoiceScores> scores(context.models.size());
  std::vector<size_t> missing;
  std::vector<EvaluatedModel> models;
  for (size_t m = 0; m < scores.size(); ++m) {
    scores[m].log_likelihood.resize(plan.choices);
    scores[m].tokens.resize(plan.choices);
    scores[m].greedy.resize(plan.choices);
    std::vector<ClampCount> clamps(1);
    StateView state;
    view(scores[m], clamps, state);
    if (context.cache.load(describe_scores(context, "choices", {&m, 1}, plan.ids_sha256, more),
                           state)) {
      scores[m].clamps = clamps[0];
      continue;
    }
    missing.push_back(m);
    models.push_back(context.models[m]);
  }
  if (missing.empty()) return scores;

  const std::vector<size_t> heads = shared_heads(models);
  ChoiceSetup setup{.precision = context.precision, .heads = heads};
  setup.pass_bytes = task.pass_bytes;
  Checkpointer checkpointer(
      context.cache,
      describe_scores(context, "choices under way", missing, plan.ids_sha256,
                      more + ", passes of " + std::to_string(setup.pass_bytes) + " bytes"),
      context.options.checkpoint_seconds);
  setup.checkpointer = &checkpointer;
  std::vector<ChoiceScores> found = score_choices(models, plan, setup, context.pool, context.meter);
  for (size_t i = 0; i < missing.size(); ++i) {
    std::vector<ClampCount> clamps = {found[i].clamps};
    StateView state;
    view(found[i], clamps, state);
    context.cache.store(
        describe_scores(context, "choices", {&missing[i], 1}, plan.ids_sha256, more), state);
    scores[missing[i]] = std::move(found[i]);
  }
  checkpointer.finish();
  return scores;
}

}  // namespace

ChoiceTask prepare_choice_task(const std::string& name, std::span<const EvaluatedModel> models,
                               const EvaluateOptions& options, std::span<const size_t> heads,
                               Precision precision, int64_t threads) {
  require_no_encoder(models, "task " + name);
  ChoiceTask prepared;
  prepared.task =
      read_task(name, data_path(name, options), {.shots = options.shots, .limit = options.limit});
  constexpr int64_t kNoLimit = int64_t{1} << 30;
  int64_t positions = position_limit(models);
  if (positions == 0) positions = kNoLimit;
  for (const EvaluatedModel& model : models) {
    if (model.graph.max_positions > 0) positions = std::min(positions, model.graph.max_positions);
  }
  const Tokenizer tokenizer = load_tokenizer(*models[0].source);
  prepared.plan = plan_prompts(prepared.task, tokenizer,
                               {.max_positions = positions, .reuse_prefix = options.reuse_prefix});
  for (const PromptUnit& unit : prepared.plan.units) {
    check_token_ids(unit.ids, models[0].graph.vocab_size, prepared.task.name,
                    models[0].source->path());
  }
  prepared.pass_bytes =
      pass_bytes_of(models, prepared.plan, heads, precision, threads, options.max_memory);
  return prepared;
}

ChoiceTaskRun run_choice_task(const ChoiceTask& prepared, const TaskContext& context) {
  const auto start = std::chrono::steady_clock::now();
  const std::span<const EvaluatedModel> models = context.models;
  const Task& task = prepared.task;
  const PromptPlan& plan = prepared.plan;
  const std::vector<ChoiceScores> scores = scores_of(prepared, context);
  ChoiceTaskRun run;
  std::vector<std::vector<ItemResult>> items;
  for (size_t m = 0; m < models.size(); ++m) {
    items.push_back(decide(task, plan, scores[m]));
    run.results.push_back(summarize(task, plan, items[m], scores[m]));
    if (m > 0) compare(task, plan, items[m], items[0], scores[m], scores[0], run.results[m]);
    run.clamps.push_back(scores[m].clamps);
  }
  run.report.name = task.name;
  run.report.questions = true;
  run.report.data_sha256 = task.sha256;
  run.report.ids_sha256 = plan.ids_sha256;
  for (const PlannedItem& item : plan.items) {
    run.report.shots = std::max(run.report.shots, item.shots);
  }
  run.report.fewer_shots = plan.dropped_examples;
  run.report.prompt_tokens = plan.prompt_tokens;
  run.report.tokens_run = plan.tokens;
  run.report.method = describe_method(task, run.report.shots);
  if (context.options.keep_samples) {
    run.report.samples_jsonl = samples_jsonl(task, plan, models, scores, items);
  }
  run.report.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return run;
}

}  // namespace pare
