// Tables of at most 80 columns. What does not fit beside each other stands below each other.
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

constexpr size_t kColumns = 80;
constexpr Align kLeft = Align::kLeft;
constexpr Align kRight = Align::kRight;

// All tables begin with the names of model and method.
std::string fitted(TextTable& table) { return table.fit(kColumns, {0, 1}).render(); }

std::string paragraphs(const std::vector<std::string>& notes) {
  std::string text;
  for (const std::string& note : notes) text += wrapped(note, kColumns);
  return text;
}

std::string loss_table(const TaskRows& task) {
  TextTable table({"Model", "Method", "Baseline", "After", "Loss", "95 %"},
                  {kLeft, kLeft, kRight, kRight, kRight, kRight});
  for (const BaselineRows& rows : task.baselines) {
    const std::string base = percent(rows.choice().accuracy.value);
    if (rows.candidates.empty()) table.add({rows.model, rows.method, base, "-", "-", "-"});
    for (const CandidateRow& row : rows.candidates) {
      const ChoiceResult& result = row.choice(task.name);
      table.add({rows.model, row.method, base, percent(result.accuracy.value),
                 percent_sign(result.relative_loss.value),
                 percent_range(result.relative_loss.interval)});
    }
  }
  return fitted(table);
}

std::string flips_text(const ChoiceResult& result) {
  return fmt::format("-{} +{}", fixed(static_cast<double>(result.lost), 0),
                     fixed(static_cast<double>(result.gained), 0));
}

std::string flips_table(const TaskRows& task) {
  TextTable table({"Model", "Method", "accuracy 95 %", "flips", "McNemar p"},
                  {kLeft, kLeft, kRight, kRight, kRight});
  const auto interval = [](const Accuracy& accuracy) {
    return percent_range(Interval{accuracy.lower, accuracy.upper});
  };
  for (const BaselineRows& rows : task.baselines) {
    table.add({rows.model, rows.method, interval(rows.choice().accuracy), "-", "-"});
    for (const CandidateRow& row : rows.candidates) {
      const ChoiceResult& result = row.choice(task.name);
      table.add({rows.model, row.method, interval(result.accuracy), flips_text(result),
                 p_value(result.mcnemar_p)});
    }
  }
  return fitted(table);
}

// All digits that publications give, whatever the error.
std::string with_own_error(const Measured& ppl) {
  const std::string text = fixed(ppl.value, 4);
  return ppl.interval ? text + fmt::format(" ± {:.2g}", ppl.standard_error) : text;
}

std::string ratio_table(const TaskRows& task) {
  TextTable table({"Model", "Method", "bits", "PPL ± se", "ratio ± se"},
                  {kLeft, kLeft, kRight, kRight, kRight});
  const auto figures = [](const ModelResult& model, const PerplexityResult& result) {
    return std::pair(fixed(model.bits_per_weight, 3), with_own_error(result.ppl));
  };
  for (const BaselineRows& rows : task.baselines) {
    const auto [bits, ppl] = figures(rows.report->baseline, rows.perplexity());
    table.add({rows.model, rows.method, bits, ppl, "1"});
    for (const CandidateRow& row : rows.candidates) {
      const PerplexityResult& result = row.perplexity(task.name);
      const auto [row_bits, row_ppl] = figures(*row.model, result);
      table.add({rows.model, row.method, row_bits, row_ppl, with_error(result.ratio)});
    }
  }
  return fitted(table);
}

std::string kl_table(const TaskRows& task) {
  TextTable table({"Model", "Method", "KL mean", "KL 99 %", "top-1"},
                  {kLeft, kLeft, kRight, kRight, kRight});
  for (const BaselineRows& rows : task.baselines) {
    for (const CandidateRow& row : rows.candidates) {
      const Divergence& divergence = row.perplexity(task.name).divergence;
      table.add({rows.model, row.method, number(divergence.kl_mean.value),
                 number(divergence.kl_p99.value), percent_sign(divergence.top1_agreement.value)});
    }
  }
  return fitted(table);
}

// A column for each of some candidates.
TextTable divergence_columns(const TaskRows& task, std::span<const CandidateRow> rows) {
  constexpr size_t kHeader = 20;
  std::vector<std::string> header = {""};
  for (const CandidateRow& row : rows) header.push_back(shortened_middle(row.method, kHeader));
  std::vector<Align> align(header.size(), kRight);
  align[0] = kLeft;
  TextTable table(header, align);
  const auto add = [&](const char* name, const auto& figure) {
    std::vector<std::string> cells = {name};
    for (const CandidateRow& row : rows)
      cells.push_back(figure(row.perplexity(task.name).divergence));
    table.add(std::move(cells));
  };
  using D = const Divergence&;
  add("KL mean", [](D d) { return with_error(d.kl_mean); });
  add("KL median", [](D d) { return with_error(d.kl_median); });
  add("KL 90 %", [](D d) { return with_error(d.kl_p90); });
  add("KL 95 %", [](D d) { return with_error(d.kl_p95); });
  add("KL 99 %", [](D d) { return with_error(d.kl_p99); });
  add("KL 99.9 %", [](D d) { return with_error(d.kl_p999); });
  add("KL max", [](D d) { return number(d.kl_max); });
  add("Δp mean", [](D d) { return with_error(d.delta_p_mean); });
  add("Δp RMS", [](D d) { return with_error(d.delta_p_rms); });
  add("top-1 %", [](D d) { return with_error(d.top1_agreement, 100); });
  add("top-5 %", [](D d) { return with_error(d.top5_agreement, 100); });
  return table;
}

// As many candidates beside each other as fit.
std::string divergence_tables(const TaskRows& task, const BaselineRows& rows) {
  std::string text;
  for (std::span<const CandidateRow> left = rows.candidates; !left.empty();) {
    size_t count = std::min<size_t>(left.size(), 3);
    while (count > 1 && divergence_columns(task, left.first(count)).width() > kColumns) --count;
    text += "\n" + wrapped("Divergence from " + rows.model, kColumns) +
            divergence_columns(task, left.first(count)).render();
    left = left.subspan(count);
  }
  return text;
}

std::string worst_slices(const std::string& name, const std::vector<DivergenceSlice>& slices) {
  constexpr size_t kShown = 3;
  constexpr size_t kLongestName = 24;
  if (slices.empty()) return "";
  std::vector<const DivergenceSlice*> sorted;
  for (const DivergenceSlice& slice : slices) sorted.push_back(&slice);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const DivergenceSlice* a, const DivergenceSlice* b) {
                     return a->kl_mean.value > b->kl_mean.value;
                   });
  sorted.resize(std::min(sorted.size(), kShown));
  // Lines break between slices only.
  constexpr char kGlue = '\x1f';
  std::string text = name + ":";
  for (const DivergenceSlice* slice : sorted) {
    std::string item =
        fmt::format("{} {} (×{}, n = {})", shortened_middle(plain_text(slice->name), kLongestName),
                    number(slice->kl_mean.value), fixed(slice->ppl_ratio.value, 3),
                    format_count(slice->tokens));
    std::replace(item.begin(), item.end(), ' ', kGlue);
    text += (slice == sorted.front() ? " " : ", ") + item;
  }
  text = wrapped(text, kColumns);
  std::replace(text.begin(), text.end(), kGlue, ' ');
  return text;
}

std::string slices_of(const TaskRows& task, const BaselineRows& rows) {
  std::string positions;
  std::string classes;
  for (const CandidateRow& row : rows.candidates) {
    const Divergence& divergence = row.perplexity(task.name).divergence;
    positions += worst_slices(row.method, divergence.by_position);
    classes += worst_slices(row.method, divergence.by_token_class);
  }
  const std::string of = task.baselines.size() > 1 ? " (" + rows.model + ")" : "";
  std::string text;
  if (!positions.empty())
    text += "\n" +
            wrapped("Largest mean KL by position, with the ratio of perplexities" + of, kColumns);
  text += positions;
  if (!classes.empty()) text += "\n" + wrapped("Largest mean KL by class of token" + of, kColumns);
  return text + classes;
}

std::string task_text(const TaskRows& task) {
  const bool any = std::any_of(task.baselines.begin(), task.baselines.end(),
                               [](const BaselineRows& rows) { return !rows.candidates.empty(); });
  std::string text;
  if (task.questions) {
    text = loss_table(task) + "\n" + flips_table(task);
  } else {
    text = ratio_table(task);
    if (any) text += "\n" + kl_table(task);
    for (const BaselineRows& rows : task.baselines) {
      text += divergence_tables(task, rows) + slices_of(task, rows);
    }
  }
  return wrapped(task.title, kColumns) + "\n" + text + "\n" + paragraphs(task_notes(task));
}

std::string layers_text(const LayerRows& rows) {
  constexpr size_t kShown = 10;
  TextTable table({"Linear", "Format", "SQNR dB", "KL ± se"}, {kLeft, kLeft, kRight, kRight});
  const size_t shown = std::min(kShown, rows.layers.size());
  for (size_t i = 0; i < shown; ++i) {
    const LayerError& layer = *rows.layers[i];
    table.add({plain_text(layer.name), plain_text(layer.qformat),
               layer.sqnr_db ? fixed(*layer.sqnr_db, 2) : "exact", with_error(layer.kl_mean)});
  }
  std::string text = wrapped(layer_note(rows), kColumns) + "\n" + fitted(table);
  if (shown < rows.layers.size()) {
    text += fmt::format("{} other linears have no larger divergence.\n",
                        format_count(static_cast<int64_t>(rows.layers.size() - shown)));
  }
  return text;
}

}  // namespace

std::string text_report(std::span<const EvaluateReport> reports) {
  std::string text;
  for (const TaskRows& task : task_rows(reports)) text += task_text(task) + "\n";
  for (const LayerRows& rows : layer_rows(reports)) text += layers_text(rows) + "\n";
  return text + paragraphs(run_notes(reports));
}

}  // namespace pare::tools
