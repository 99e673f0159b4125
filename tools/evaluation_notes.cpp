#include "tools/evaluation_notes.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/evaluation_figures.h"
#include "tools/plain_text.h"
#include "tools/table.h"

namespace pare::tools {
namespace {

using Notes = std::vector<std::string>;

// Of texts from a file, which may be of any length.
std::string sentence(const std::string& text) {
  constexpr size_t kLongest = 1000;
  return shortened_middle(plain_text(text), kLongest);
}

void add_once(std::string note, Notes& notes) {
  if (std::find(notes.begin(), notes.end(), note) == notes.end()) notes.push_back(std::move(note));
}

// Names the baseline only where there are several.
std::string subject(const TaskRows& task, const BaselineRows& rows) {
  return task.baselines.size() > 1 ? rows.model + ", " : "";
}

std::string words_ppl(const TaskRows& task, const BaselineRows& rows) {
  if (!(rows.choice().target_ppl.value > 0)) return "";
  std::string text = fmt::format("{}perplexity of the words asked for: {} {}", subject(task, rows),
                                 rows.method, with_error(rows.choice().target_ppl));
  for (const CandidateRow& row : rows.candidates) {
    const ChoiceResult& result = row.choice(task.name);
    text += fmt::format(", {} {} (×{})", row.method, with_error(result.target_ppl),
                        with_error(result.target_ppl_ratio));
  }
  return text + ".";
}

void question_notes(const TaskRows& task, const BaselineRows& rows, Notes& notes) {
  const TaskReport& report = *rows.task;
  std::string text = fmt::format("{}{}: {} questions, {}.", subject(task, rows), task.title,
                                 format_count(rows.choice().accuracy.n), sentence(report.method));
  if (report.fewer_shots > 0) {
    text += fmt::format(" {} questions fitted with fewer examples only.",
                        format_count(report.fewer_shots));
  }
  text += fmt::format(" {} tokens ran; all prompts, each by itself, have {}",
                      format_count(report.tokens_run), format_count(report.prompt_tokens));
  if (report.seconds > 0) text += fmt::format("; {} s", fixed(report.seconds, 1));
  notes.push_back(text + ".");
  if (std::string words = words_ppl(task, rows); !words.empty()) notes.push_back(std::move(words));
}

void perplexity_notes(const TaskRows& task, const BaselineRows& rows, Notes& notes) {
  const TaskReport& report = *rows.task;
  std::string text =
      fmt::format("{}{}: {}. {} positions in {} windows are scored", subject(task, rows),
                  task.title, sentence(report.method), format_count(rows.perplexity().tokens),
                  format_count(rows.perplexity().windows));
  if (report.text_tokens > 0) {
    text += fmt::format(", of a text of {} tokens", format_count(report.text_tokens));
  }
  if (report.seconds > 0) text += fmt::format("; {} s", fixed(report.seconds, 1));
  notes.push_back(text + ".");
}

// Rows that were not measured alike invite wrong conclusions.
bool is_mixed(const TaskRows& task) {
  const BaselineRows& first = task.baselines.front();
  return std::any_of(task.baselines.begin(), task.baselines.end(), [&](const BaselineRows& rows) {
    return rows.task->data_sha256 != first.task->data_sha256 ||
           rows.task->method != first.task->method ||
           rows.report->precision != first.report->precision;
  });
}

bool has_candidates(const TaskRows& task) {
  return std::any_of(task.baselines.begin(), task.baselines.end(),
                     [](const BaselineRows& rows) { return !rows.candidates.empty(); });
}

const char* legend(bool questions) {
  return questions
             ? "Baseline and After are accuracies in %, with Wilson's interval. Loss is relative "
               "to the baseline's accuracy, positive where the candidate is worse; its interval is "
               "of paired differences, between subjects where there are several. Flips are answers "
               "lost and gained; McNemar's test is exact. All intervals are of 95 %."
             : "± is one standard error; that of a ratio is from paired windows. KL is the "
               "divergence of the candidate from the baseline over the whole vocabulary, in nats; "
               "Δp is the change of the probability of the right token.";
}

}  // namespace

std::vector<std::string> task_notes(const TaskRows& task) {
  Notes notes;
  for (const BaselineRows& rows : task.baselines) {
    task.questions ? question_notes(task, rows, notes) : perplexity_notes(task, rows, notes);
  }
  if (is_mixed(task)) {
    notes.emplace_back(
        "The models of this table were not measured alike: data, convention or arithmetic differ. "
        "Compare the rows of one model only.");
  }
  if (!has_candidates(task)) return notes;
  notes.emplace_back(legend(task.questions));
  for (const BaselineRows& rows : task.baselines) {
    for (const CandidateRow& row : rows.candidates) {
      const std::string& verdict =
          task.questions ? row.choice(task.name).verdict : row.perplexity(task.name).verdict;
      if (verdict.empty()) continue;
      notes.push_back(fmt::format("{}{}: {}.", subject(task, rows), row.method, sentence(verdict)));
    }
  }
  return notes;
}

std::string layer_note(const LayerRows& rows) {
  return fmt::format(
      "{}: each linear compressed alone, with the rest as in the baseline: signal-to-noise ratio "
      "of its output, and KL divergence of the model, over {} positions.",
      rows.title, format_count(rows.model->layer_tokens));
}

std::vector<std::string> run_notes(std::span<const EvaluateReport> reports) {
  Notes notes;
  for (const EvaluateReport& report : reports) {
    std::string text;
    if (reports.size() > 1) text = sentence(report.baseline.name) + ": ";
    text += fmt::format("Arithmetic: {}, kernels {}.", sentence(report.precision),
                        sentence(report.kernel));
    if (report.seconds > 0) {
      text += fmt::format(" {} s, peak memory {}.", fixed(report.seconds, 1),
                          format_bytes(report.peak_rss_bytes));
    }
    add_once(std::move(text), notes);
  }
  for (const EvaluateReport& report : reports) {
    for (const std::string& warning : report.warnings) {
      add_once("Warning: " + sentence(warning), notes);
    }
  }
  return notes;
}

}  // namespace pare::tools
