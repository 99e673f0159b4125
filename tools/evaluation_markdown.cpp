// Everything that a report holds and a document wants, without regard to width.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "tools/evaluation_figures.h"
#include "tools/evaluation_formats.h"
#include "tools/evaluation_notes.h"
#include "tools/evaluation_rows.h"
#include "tools/plain_text.h"
#include "tools/table.h"

namespace pare::tools {
namespace {

constexpr Align kLeft = Align::kLeft;
constexpr Align kRight = Align::kRight;

/// `names` first columns with words, the others with figures.
TextTable table_of(std::vector<std::string> header, size_t names) {
  std::vector<Align> align(header.size(), kRight);
  std::fill_n(align.begin(), names, kLeft);
  return {std::move(header), std::move(align)};
}

std::string bullets(const std::vector<std::string>& notes) {
  std::string text;
  for (const std::string& note : notes) text += "- " + escaped_markdown(note) + "\n";
  return text;
}

std::string titled(int level, const std::string& title, const TextTable& table) {
  return std::string(static_cast<size_t>(level), '#') + " " + escaped_markdown(title) + "\n\n" +
         table.markdown() + "\n";
}

std::string with_interval(const Accuracy& accuracy) {
  return fmt::format("{} ({})", percent(accuracy.value),
                     percent_range(Interval{accuracy.lower, accuracy.upper}));
}

TextTable question_table(const TaskRows& task) {
  TextTable table = table_of({"Model", "Method", "bits", "Baseline", "After", "Loss", "95 %",
                              "points", "95 % (points)", "flips", "McNemar p"},
                             2);
  for (const BaselineRows& rows : task.baselines) {
    const std::string base = with_interval(rows.choice().accuracy);
    if (rows.candidates.empty()) {
      table.add({rows.model, rows.method, fixed(rows.report->baseline.bits_per_weight, 3), base,
                 "-", "-", "-", "-", "-", "-", "-"});
    }
    for (const CandidateRow& row : rows.candidates) {
      const ChoiceResult& result = row.choice(task.name);
      table.add({rows.model, row.method, fixed(row.model->bits_per_weight, 3), base,
                 with_interval(result.accuracy), percent_sign(result.relative_loss.value),
                 percent_range(result.relative_loss.interval), percent(result.difference.value),
                 percent_range(result.difference.interval),
                 fmt::format("-{} +{}", result.lost, result.gained), p_value(result.mcnemar_p)});
    }
  }
  return table;
}

using Accuracies = std::vector<std::pair<std::string, Accuracy>>;

// Subjects or categories: a column for the baseline and for each candidate.
std::string group_table(const TaskRows& task, const BaselineRows& rows, const char* title,
                        Accuracies ChoiceResult::*groups) {
  const Accuracies& base = rows.choice().*groups;
  if (base.size() < 2) return "";  // One is the task itself.
  std::vector<std::string> header = {title, "questions", rows.method};
  for (const CandidateRow& row : rows.candidates) header.push_back(row.method);
  TextTable table = table_of(std::move(header), 1);
  for (const auto& [name, accuracy] : base) {
    std::vector<std::string> cells = {plain_text(name), format_count(accuracy.n),
                                      percent(accuracy.value)};
    for (const CandidateRow& row : rows.candidates) {
      const Accuracies& found = row.choice(task.name).*groups;
      const auto same = std::find_if(found.begin(), found.end(), [&key = name](const auto& group) {
        return group.first == key;
      });
      cells.push_back(same == found.end() ? "-" : percent(same->second.value));
    }
    table.add(std::move(cells));
  }
  return titled(3, fmt::format("{}, {}: accuracy in % by {}", task.title, rows.model, title),
                table);
}

TextTable perplexity_table(const TaskRows& task) {
  TextTable table = table_of({"Model", "Method", "bits", "size", "PPL ± se", "ratio ± se", "Loss",
                              "95 %", "KL mean ± se", "KL 99 % ± se", "top-1 %"},
                             2);
  const auto beginning = [](const std::string& model, const std::string& method,
                            const ModelResult& file, const Measured& ppl) {
    return std::vector<std::string>{model, method, fixed(file.bits_per_weight, 3),
                                    format_bytes(file.bytes), with_error(ppl)};
  };
  for (const BaselineRows& rows : task.baselines) {
    auto cells = beginning(rows.model, rows.method, rows.report->baseline, rows.perplexity().ppl);
    cells.insert(cells.end(), {"1", "-", "-", "-", "-", "-"});
    table.add(std::move(cells));
    for (const CandidateRow& row : rows.candidates) {
      const PerplexityResult& result = row.perplexity(task.name);
      const auto& interval = result.ratio.interval;
      cells = beginning(rows.model, row.method, *row.model, result.ppl);
      cells.insert(
          cells.end(),
          {with_error(result.ratio), percent_sign(result.ratio.value - 1),
           interval ? percent_range(Interval{interval->lower - 1, interval->upper - 1}) : "-",
           with_error(result.divergence.kl_mean), with_error(result.divergence.kl_p99),
           with_error(result.divergence.top1_agreement, 100)});
      table.add(std::move(cells));
    }
  }
  return table;
}

std::string divergence_table(const TaskRows& task, const BaselineRows& rows) {
  TextTable table = table_of({"Method", "KL mean", "median", "90 %", "95 %", "99 %", "99.9 %",
                              "max", "Δp mean", "Δp RMS", "top-1 %", "top-5 %"},
                             1);
  for (const CandidateRow& row : rows.candidates) {
    const Divergence& d = row.perplexity(task.name).divergence;
    table.add({row.method, with_error(d.kl_mean), with_error(d.kl_median), with_error(d.kl_p90),
               with_error(d.kl_p95), with_error(d.kl_p99), with_error(d.kl_p999), number(d.kl_max),
               with_error(d.delta_p_mean), with_error(d.delta_p_rms),
               with_error(d.top1_agreement, 100), with_error(d.top5_agreement, 100)});
  }
  return titled(3, fmt::format("{}: divergence from {}", task.title, rows.model), table);
}

std::string slice_table(const TaskRows& task, const BaselineRows& rows, const char* title,
                        std::vector<DivergenceSlice> Divergence::*slices) {
  TextTable table = table_of(
      {"Method", title, "tokens", "baseline's PPL", "ratio ± se", "KL mean ± se", "top-1 %"}, 2);
  bool any = false;
  for (const CandidateRow& row : rows.candidates) {
    for (const DivergenceSlice& slice : row.perplexity(task.name).divergence.*slices) {
      any = true;
      table.add({row.method, plain_text(slice.name), format_count(slice.tokens),
                 fixed(slice.base_ppl, 4), with_error(slice.ppl_ratio), with_error(slice.kl_mean),
                 with_error(slice.top1_agreement, 100)});
    }
  }
  return any ? titled(3, fmt::format("{}, {}: divergence by {}", task.title, rows.model, title),
                      table)
             : "";
}

std::string task_markdown(const TaskRows& task) {
  std::string text =
      titled(2, task.title, task.questions ? question_table(task) : perplexity_table(task));
  text += bullets(task_notes(task));
  for (const BaselineRows& rows : task.baselines) {
    text += fmt::format("- SHA-256, {}: data {}, token ids {}\n", escaped_markdown(rows.model),
                        escaped_markdown(plain_text(rows.task->data_sha256)),
                        escaped_markdown(plain_text(rows.task->ids_sha256)));
  }
  text += "\n";
  for (const BaselineRows& rows : task.baselines) {
    if (task.questions) {
      text += group_table(task, rows, "category", &ChoiceResult::categories);
      text += group_table(task, rows, "subject", &ChoiceResult::groups);
    } else if (!rows.candidates.empty()) {
      text += divergence_table(task, rows);
      text += slice_table(task, rows, "position", &Divergence::by_position);
      text += slice_table(task, rows, "class of token", &Divergence::by_token_class);
    }
  }
  return text;
}

std::string layers_markdown(const LayerRows& rows) {
  TextTable table = table_of({"Linear", "Format", "shape", "SQNR dB", "KL mean ± se"}, 2);
  for (const LayerError* layer : rows.layers) {
    table.add({plain_text(layer->name), plain_text(layer->qformat),
               fmt::format("{} × {}", layer->out_features, layer->in_features),
               layer->sqnr_db ? fixed(*layer->sqnr_db, 2) : "exact", with_error(layer->kl_mean)});
  }
  return titled(2, "Error by layer: " + rows.title, table) + bullets({layer_note(rows)}) + "\n";
}

}  // namespace

std::string markdown_report(std::span<const EvaluateReport> reports) {
  std::string text;
  for (const TaskRows& task : task_rows(reports)) text += task_markdown(task);
  for (const LayerRows& rows : layer_rows(reports)) text += layers_markdown(rows);
  return text + "## Run\n\n" + bullets(run_notes(reports));
}

}  // namespace pare::tools
