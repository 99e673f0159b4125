#include "tools/evaluation_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "tools/plain_text.h"
#include "tools/table.h"

namespace pare::tools {
namespace {

// Names longer than this say nothing more to a reader.
constexpr size_t kLongestName = 60;

std::string short_name(const std::string& name) {
  return shortened_middle(plain_text(name), kLongestName);
}

bool has_result(const ModelResult& model, const TaskReport& task) {
  return task.questions ? model.choices.contains(task.name)
                        : model.perplexities.contains(task.name);
}

// Whether two runs found the same for a model; what that rests on is compared elsewhere.
bool same_result(const ModelResult& a, const ModelResult& b, const TaskReport& task) {
  if (task.questions) {
    const ChoiceResult& x = a.choices.at(task.name);
    const ChoiceResult& y = b.choices.at(task.name);
    return x.accuracy.n == y.accuracy.n && x.accuracy.right == y.accuracy.right &&
           x.lost == y.lost && x.gained == y.gained && x.target_ppl.value == y.target_ppl.value;
  }
  const PerplexityResult& x = a.perplexities.at(task.name);
  const PerplexityResult& y = b.perplexities.at(task.name);
  return x.tokens == y.tokens && x.ppl.value == y.ppl.value &&
         x.divergence.kl_mean.value == y.divergence.kl_mean.value;
}

bool same_file(const ModelResult& a, const ModelResult& b) {
  return a.name == b.name && a.sha256 == b.sha256 && !a.sha256.empty();
}

bool same_baseline(const BaselineRows& rows, const EvaluateReport& report, const TaskReport& task) {
  return same_file(rows.report->baseline, report.baseline) &&
         rows.report->precision == report.precision && rows.report->kernel == report.kernel &&
         rows.task->method == task.method && rows.task->data_sha256 == task.data_sha256 &&
         rows.task->ids_sha256 == task.ids_sha256 &&
         same_result(rows.report->baseline, report.baseline, task);
}

void add_candidates(const EvaluateReport& report, const TaskReport& task, BaselineRows& rows) {
  for (const ModelResult& model : report.candidates) {
    if (!has_result(model, task)) continue;
    const bool known =
        std::any_of(rows.candidates.begin(), rows.candidates.end(), [&](const CandidateRow& row) {
          return row.report != &report && same_file(*row.model, model) &&
                 same_result(*row.model, model, task);
        });
    if (!known) rows.candidates.push_back({&report, &model, method_label(model)});
  }
}

// Adds what `more` says to the names that are not unique, and a number where that is not enough.
template <typename Rows, typename Name, typename More>
void make_unique(Rows& rows, const Name& name, const More& more) {
  std::map<std::string, int> counts;
  for (auto& row : rows) ++counts[name(row)];
  for (auto& row : rows) {
    if (counts[name(row)] > 1) name(row) += more(row);
  }
  std::map<std::string, int> seen;
  for (auto& row : rows) {
    const int number = ++seen[name(row)];
    if (number > 1) name(row) += fmt::format(" #{}", number);
  }
}

void name_rows(TaskRows& task) {
  make_unique(
      task.baselines, [](BaselineRows& rows) -> std::string& { return rows.model; },
      [](const BaselineRows&) { return std::string(); });
  for (BaselineRows& rows : task.baselines) {
    make_unique(
        rows.candidates, [](CandidateRow& row) -> std::string& { return row.method; },
        [](const CandidateRow& row) { return " (" + short_name(row.model->name) + ")"; });
  }
}

TaskRows& rows_of(const TaskReport& task, std::vector<TaskRows>& tasks) {
  const auto found = std::find_if(tasks.begin(), tasks.end(), [&](const TaskRows& rows) {
    return rows.name == task.name && rows.questions == task.questions;
  });
  if (found != tasks.end()) return *found;
  tasks.push_back({task.name, short_name(task.name), task.questions, {}});
  return tasks.back();
}

std::string format_label(const std::string& qformat) {
  static const std::map<std::string, std::string> known = {
      {"bf16", "BF16"},           {"full_prec", "BF16"},    {"fp8", "FP8"},
      {"fp8_pc_pt", "FP8-PC-PT"}, {"fp8_block", "FP8-128"}, {"int8_sq", "INT8-SQ"},
      {"int8", "INT8"},           {"int4_awq", "INT4-AWQ"}, {"w4a8_awq", "W4A8-AWQ"},
      {"nvfp4", "NVFP4"},         {"nvfp4_wo", "NVFP4-WO"}, {"mxfp4", "MXFP4"},
      {"mxfp4_wo", "MXFP4-WO"}};
  const auto found = known.find(qformat);
  return found == known.end() ? short_name(qformat) : found->second;
}

std::string sparsity_label(const std::string& sparsity) {
  if (sparsity == "magnitude") return "2:4 magnitude";
  if (sparsity == "wanda") return "2:4 Wanda";
  if (sparsity == "ria") return "2:4 RIA";
  if (sparsity == "sparsegpt") return "2:4 SparseGPT";
  return "2:4 " + short_name(sparsity);
}

}  // namespace

std::vector<TaskRows> task_rows(std::span<const EvaluateReport> reports) {
  std::vector<TaskRows> tasks;
  for (const EvaluateReport& report : reports) {
    for (const TaskReport& task : report.tasks) {
      if (!has_result(report.baseline, task)) continue;
      std::vector<BaselineRows>& baselines = rows_of(task, tasks).baselines;
      auto rows = std::find_if(
          baselines.begin(), baselines.end(),
          [&](const BaselineRows& candidate) { return same_baseline(candidate, report, task); });
      if (rows == baselines.end()) {
        baselines.push_back(
            {&report, &task, short_name(report.baseline.name), method_label(report.baseline), {}});
        rows = std::prev(baselines.end());
      }
      add_candidates(report, task, *rows);
    }
  }
  for (TaskRows& task : tasks) name_rows(task);
  return tasks;
}

std::vector<LayerRows> layer_rows(std::span<const EvaluateReport> reports) {
  std::vector<LayerRows> result;
  for (const EvaluateReport& report : reports) {
    for (const ModelResult& model : report.candidates) {
      if (model.layers.empty()) continue;
      LayerRows rows;
      rows.title = fmt::format("{}, {} ({})", short_name(report.baseline.name), method_label(model),
                               short_name(model.name));
      rows.model = &model;
      for (const LayerError& layer : model.layers) rows.layers.push_back(&layer);
      std::stable_sort(rows.layers.begin(), rows.layers.end(),
                       [](const LayerError* a, const LayerError* b) {
                         return a->kl_mean.value > b->kl_mean.value;
                       });
      result.push_back(std::move(rows));
    }
  }
  return result;
}

std::string method_label(const ModelResult& model) {
  std::string label = format_label(model.qformat);
  if (model.kv_cache != "none" && !model.kv_cache.empty()) {
    label += " + KV " + format_label(model.kv_cache);
  }
  if (model.sparsity == "none" || model.sparsity.empty()) return label;
  const std::string sparsity = sparsity_label(model.sparsity);
  return label == "BF16" ? sparsity : label + " + " + sparsity;
}

}  // namespace pare::tools
