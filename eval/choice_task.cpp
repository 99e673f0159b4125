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
    double sum = 0;
    for (const PlannedItem& item : plan.items) sum += scores.log_likelihood[item.first_choice];
    result.target_ppl = std::exp(-sum / static_cast<double>(plan.items.size()));
  }
  return result;
}

void compare(const PromptPlan& plan, const std::vector<ItemResult>& items,
             const std::vector<ItemResult>& base, ChoiceResult& result) {
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
  const Interval nothing{-1, 1};
  result.difference = comparison.difference.value;
  result.difference_lower = comparison.difference.interval.value_or(nothing).lower;
  result.difference_upper = comparison.difference.interval.value_or(nothing).upper;
  result.relative = comparison.relative.value;
  result.relative_lower = comparison.relative.interval.value_or(nothing).lower;
  result.relative_upper = comparison.relative.interval.value_or(nothing).upper;
  result.lost = static_cast<int64_t>(comparison.lost);
  result.gained = static_cast<int64_t>(comparison.gained);
  result.mcnemar_p = comparison.mcnemar_p;
  result.verdict = verdict(verdict_input(comparison, EffectUnit::kPercentagePoints)).sentence;
}

std::string describe_method(const Task& task, int64_t shots) {
  const char* scoring = "largest sum of the choice's log-probabilities";
  if (task.scoring == ChoiceScoring::kPerCharacter) {
    scoring = "largest mean log-probability a character of the choice";
  } else if (task.scoring == ChoiceScoring::kGreedy) {
    scoring = "each token of the last word is the most likely one";
  }
  return std::to_string(shots) + "-shot, right when it has the " + scoring;
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

}  // namespace

ChoiceTaskRun run_choice_task(const std::string& name, std::span<const EvaluatedModel> models,
                              const EvaluateOptions& options, std::span<const size_t> heads,
                              Precision precision, ThreadPool& pool, ProgressMeter& meter) {
  const auto start = std::chrono::steady_clock::now();
  const std::string path = data_path(name, options);
  meter.phase("read", path.empty() ? name : path);
  const Task task = read_task(name, path, {.shots = options.shots, .limit = options.limit});
  meter.check_cancelled();
  int64_t positions = models[0].graph.max_positions;
  for (const EvaluatedModel& model : models) {
    positions = std::min(positions, model.graph.max_positions);
  }
  const Tokenizer tokenizer = load_tokenizer(*models[0].source);
  const PromptPlan plan = plan_prompts(
      task, tokenizer, {.max_positions = positions, .reuse_prefix = options.reuse_prefix});
  for (const PromptUnit& unit : plan.units) {
    check_token_ids(unit.ids, models[0].graph.vocab_size, task.name, models[0].source->path());
  }
  meter.check_cancelled();

  const std::vector<ChoiceScores> scores = score_choices(
      models, plan, {.precision = precision, .heads = {heads.begin(), heads.end()}}, pool, meter);
  ChoiceTaskRun run;
  std::vector<std::vector<ItemResult>> items;
  for (size_t m = 0; m < models.size(); ++m) {
    items.push_back(decide(task, plan, scores[m]));
    run.results.push_back(summarize(task, plan, items[m], scores[m]));
    if (m > 0) compare(plan, items[m], items[0], run.results[m]);
    run.clamps.push_back(scores[m].clamps);
  }
  run.report.name = task.name;
  run.report.data_sha256 = task.sha256;
  run.report.ids_sha256 = plan.ids_sha256;
  for (const PlannedItem& item : plan.items) {
    run.report.shots = std::max(run.report.shots, item.shots);
  }
  run.report.fewer_shots = plan.dropped_examples;
  run.report.prompt_tokens = plan.prompt_tokens;
  run.report.tokens_run = plan.tokens;
  run.report.method = describe_method(task, run.report.shots);
  if (options.keep_samples) {
    run.report.samples_jsonl = samples_jsonl(task, plan, models, scores, items);
  }
  run.report.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return run;
}

}  // namespace pare
