// RFC 4180: one header, one record for each task and model, CRLF line ends. A spreadsheet takes a
// cell that begins with =, +, - or @ as a formula: text never begins so.
#include <fmt/format.h>

#include <cmath>
#include <map>
#include <utility>

#include "eval/figures.h"
#include "tools/evaluation_formats.h"
#include "tools/evaluation_rows.h"
#include "tools/plain_text.h"

namespace pare::tools {
namespace {

std::string quoted(const std::string& cell) {
  if (cell.find_first_of(",\"\r\n") == std::string::npos) return cell;
  std::string text = "\"";
  for (const char letter : cell) text += letter == '"' ? "\"\"" : std::string(1, letter);
  return text + "\"";
}

// Names and values in the order in which they are put: the header is the names of any record.
class Record {
 public:
  void text(const std::string& name, const std::string& value) {
    const std::string plain = plain_text(value);
    const size_t first = plain.find_first_not_of(' ');
    const bool formula = first != std::string::npos &&
                         std::string_view("=+-@").find(plain[first]) != std::string_view::npos;
    cells_.emplace_back(name, quoted(formula ? "'" + plain : plain));
  }

  void count(const std::string& name, int64_t value) {
    cells_.emplace_back(name, fmt::format("{}", value));
  }

  void number(const std::string& name, double value) {
    cells_.emplace_back(name, std::isfinite(value) ? fmt::format("{}", value) : "");
  }

  void nothing(const std::string& name) { cells_.emplace_back(name, ""); }

  void interval(const std::string& name, const std::optional<Interval>& value) {
    value ? number(name + "_lower", value->lower) : nothing(name + "_lower");
    value ? number(name + "_upper", value->upper) : nothing(name + "_upper");
  }

  void measured(const std::string& name, const Measured* figure) {
    figure != nullptr ? number(name, figure->value) : nothing(name);
    figure != nullptr ? number(name + "_se", figure->standard_error) : nothing(name + "_se");
    interval(name, figure != nullptr ? figure->interval : std::nullopt);
  }

  std::string header() const {
    return line([](const Cell& cell) { return cell.first; });
  }
  std::string values() const {
    return line([](const Cell& cell) { return cell.second; });
  }

 private:
  using Cell = std::pair<std::string, std::string>;

  template <typename Part>
  std::string line(const Part& part) const {
    std::string text;
    for (size_t i = 0; i < cells_.size(); ++i) text += (i == 0 ? "" : ",") + part(cells_[i]);
    return text + "\r\n";
  }

  std::vector<Cell> cells_;
};

// A model on a task; the baseline itself has no candidate.
struct Row {
  const TaskRows* task;
  const BaselineRows* baseline;
  const CandidateRow* candidate;

  const EvaluateReport& report() const {
    return candidate != nullptr ? *candidate->report : *baseline->report;
  }
  const ModelResult& model() const {
    return candidate != nullptr ? *candidate->model : baseline->report->baseline;
  }
};

void put_model(const Row& row, Record& record) {
  const ModelResult& model = row.model();
  record.text("task", row.task->name);
  record.text("kind", row.task->questions ? "questions" : "perplexity");
  record.text("model", row.baseline->model);
  record.text("method", row.candidate != nullptr ? row.candidate->method : row.baseline->method);
  record.text("role", row.candidate != nullptr ? "candidate" : "baseline");
  record.text("name", model.name);
  record.text("qformat", model.qformat);
  record.text("sparsity", model.sparsity);
  record.text("kv_cache", model.kv_cache);
  record.number("bits_per_weight", model.bits_per_weight);
  record.count("bytes", model.bytes);
  record.count("parameters", model.parameters);
  record.text("sha256", model.sha256);
}

// What both kinds of tasks have: the columns of the published table.
void put_loss(const Row& row, Record& record) {
  const bool candidate = row.candidate != nullptr;
  Measured after;
  Measured difference;
  Measured loss;
  double base = 0;
  if (row.task->questions) {
    const ChoiceResult& result = row.model().choices.at(row.task->name);
    base = row.baseline->choice().accuracy.value;
    after = {result.accuracy.value, 0, Interval{result.accuracy.lower, result.accuracy.upper}};
    difference = result.difference;
    loss = result.relative_loss;
  } else {
    const PerplexityResult& result = row.model().perplexities.at(row.task->name);
    base = row.baseline->perplexity().ppl.value;
    after = result.ppl;
    difference = result.difference;
    loss.value = result.ratio.value - 1;
    if (const auto& ratio = result.ratio.interval) {
      loss.interval = Interval{ratio->lower - 1, ratio->upper - 1};
    }
  }
  record.text("metric", row.task->questions ? "accuracy" : "ppl");
  record.number("baseline", base);
  record.number("after", after.value);
  record.interval("after", after.interval);
  candidate ? record.number("relative_loss", loss.value) : record.nothing("relative_loss");
  record.interval("relative_loss", candidate ? loss.interval : std::nullopt);
  candidate ? record.number("difference", difference.value) : record.nothing("difference");
  record.interval("difference", candidate ? difference.interval : std::nullopt);
}

void put_choice(const Row& row, Record& record) {
  const bool candidate = row.candidate != nullptr;
  if (!row.task->questions) {
    for (const char* name :
         {"n", "right", "lost", "gained", "mcnemar_p", "target_ppl", "shots", "fewer_shots"}) {
      record.nothing(name);
    }
    return;
  }
  const ChoiceResult& result = row.model().choices.at(row.task->name);
  record.count("n", result.accuracy.n);
  record.count("right", result.accuracy.right);
  candidate ? record.count("lost", result.lost) : record.nothing("lost");
  candidate ? record.count("gained", result.gained) : record.nothing("gained");
  candidate ? record.number("mcnemar_p", result.mcnemar_p) : record.nothing("mcnemar_p");
  result.target_ppl.value > 0 ? record.number("target_ppl", result.target_ppl.value)
                              : record.nothing("target_ppl");
  record.count("shots", row.baseline->task->shots);
  record.count("fewer_shots", row.baseline->task->fewer_shots);
}

void put_perplexity(const Row& row, Record& record) {
  const PerplexityResult* result =
      row.task->questions ? nullptr : &row.model().perplexities.at(row.task->name);
  const PerplexityResult* compared = row.candidate != nullptr ? result : nullptr;
  const TaskReport& task = *row.baseline->task;
  const std::pair<const char*, int64_t> sizes[] = {
      {"tokens", result != nullptr ? result->tokens : 0},
      {"windows", result != nullptr ? result->windows : 0},
      {"ctx", task.ctx},
      {"stride", task.stride}};
  for (const auto& [name, size] : sizes) {
    result != nullptr ? record.count(name, size) : record.nothing(name);
  }
  result != nullptr ? record.number("ppl_se", result->ppl.standard_error)
                    : record.nothing("ppl_se");
  record.measured("ppl_ratio", compared != nullptr ? &compared->ratio : nullptr);
  record.measured("log_ratio", compared != nullptr ? &compared->log_ratio : nullptr);
  compared != nullptr ? record.number("log_ppl_correlation", compared->correlation)
                      : record.nothing("log_ppl_correlation");
  const Divergence none;
  const Divergence& divergence = compared != nullptr ? compared->divergence : none;
  for (const auto& [name, figure] : measured_figures(divergence)) {
    record.measured(name, compared != nullptr ? figure : nullptr);
  }
  compared != nullptr ? record.number("kl_max", divergence.kl_max) : record.nothing("kl_max");
}

void put_run(const Row& row, Record& record) {
  const TaskReport& task = *row.baseline->task;
  std::string verdict;
  if (row.candidate != nullptr) {
    verdict = row.task->questions ? row.candidate->choice(row.task->name).verdict
                                  : row.candidate->perplexity(row.task->name).verdict;
  }
  record.text("verdict", verdict);
  record.text("convention", task.method);
  record.text("data_sha256", task.data_sha256);
  record.text("ids_sha256", task.ids_sha256);
  record.text("precision", row.report().precision);
  record.text("kernel", row.report().kernel);
}

Record record_of(const Row& row) {
  Record record;
  put_model(row, record);
  put_loss(row, record);
  put_choice(row, record);
  put_perplexity(row, record);
  put_run(row, record);
  return record;
}

}  // namespace

std::string csv_report(std::span<const EvaluateReport> reports) {
  std::string text;
  const auto add = [&](const Row& row) {
    const Record record = record_of(row);
    if (text.empty()) text = record.header();
    text += record.values();
  };
  for (const TaskRows& task : task_rows(reports)) {
    for (const BaselineRows& rows : task.baselines) {
      add({&task, &rows, nullptr});
      for (const CandidateRow& row : rows.candidates) add({&task, &rows, &row});
    }
  }
  return text;
}

}  // namespace pare::tools
