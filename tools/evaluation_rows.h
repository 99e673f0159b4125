// The rows of the published table, Model | Method | Baseline | After | Loss, from one report or
// several: what text, Markdown and CSV have in common.
//
// Rows are grouped by task, then by baseline, in the order given. Baselines are one where model,
// data, convention and result agree, so that reports about other candidates of the same baseline
// come together; a candidate that was measured twice alike is there once.
//
// Refers to the reports, which must outlive it. Reading is safe from any thread.
//
//   for (const TaskRows& task : task_rows(reports))
//     for (const BaselineRows& baseline : task.baselines)
//       for (const CandidateRow& row : baseline.candidates) row.method;   // "INT4-AWQ"
#pragma once

#include <span>
#include <string>
#include <vector>

#include "pare/evaluate_report.h"

namespace pare::tools {

struct CandidateRow {
  const EvaluateReport* report;
  const ModelResult* model;
  std::string method;  ///< Unique among the candidates of a baseline; plain text.

  const ChoiceResult& choice(const std::string& task) const { return model->choices.at(task); }
  const PerplexityResult& perplexity(const std::string& task) const {
    return model->perplexities.at(task);
  }
};

struct BaselineRows {
  const EvaluateReport* report;  ///< The first that has it.
  const TaskReport* task;
  std::string model;   ///< Unique among the baselines of a task; plain text.
  std::string method;  ///< "BF16"
  std::vector<CandidateRow> candidates;

  const ChoiceResult& choice() const { return report->baseline.choices.at(task->name); }
  const PerplexityResult& perplexity() const {
    return report->baseline.perplexities.at(task->name);
  }
};

struct TaskRows {
  std::string name;
  std::string title;       ///< The name as plain text.
  bool questions = false;  ///< Else a perplexity.
  std::vector<BaselineRows> baselines;
};

std::vector<TaskRows> task_rows(std::span<const EvaluateReport> reports);

/// A candidate whose linears were measured one by one.
struct LayerRows {
  std::string title;  ///< "llama-8b, INT4-AWQ (awq.h5)"
  const ModelResult* model;
  std::vector<const LayerError*> layers;  ///< The largest divergence first.
};

std::vector<LayerRows> layer_rows(std::span<const EvaluateReport> reports);

/// "FP8", "INT4-AWQ", "2:4 SparseGPT", "INT4-AWQ + 2:4 SparseGPT"; formats that are not known by
/// the name that the file gives.
std::string method_label(const ModelResult& model);

}  // namespace pare::tools
