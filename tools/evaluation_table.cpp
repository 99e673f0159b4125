#include "tools/evaluation_table.h"

#include <fmt/format.h>

#include <vector>

#include "tools/main_guard.h"
#include "tools/table.h"

namespace pare::tools {
namespace {

std::string format_name(const ModelResult& model) {
  return model.sparsity == "none" ? model.qformat : model.qformat + " + 2:4 " + model.sparsity;
}

std::string scientific_or_fixed(double value) {
  return value != 0 && value < 1e-4 ? fmt::format("{:.2e}", value) : fmt::format("{:.5f}", value);
}

std::vector<std::string> row(const ModelResult& model, bool is_baseline) {
  const PerplexityResult& result = model.perplexity;
  std::vector<std::string> cells = {
      printable(model.name), format_name(model), fmt::format("{:.3f}", model.bits_per_weight),
      format_bytes(model.bytes), fmt::format("{:.4f} ± {:.4f}", result.ppl, result.ppl_se)};
  if (is_baseline) {
    cells.insert(cells.end(), {"1", "-", "-", "-"});
  } else {
    cells.insert(cells.end(),
                 {fmt::format("{:.5f} ± {:.5f}", result.ppl_ratio, result.ppl_ratio_se),
                  scientific_or_fixed(result.kl_mean), scientific_or_fixed(result.kl_p99),
                  fmt::format("{:.2f} %", 100 * result.top1_agreement)});
  }
  return cells;
}

std::string perplexity_table(const EvaluateReport& report) {
  constexpr Align kRight = Align::kRight;
  TextTable table(
      {"Model", "Format", "bits/weight", "size", "perplexity ± se", "ratio ± se", "KL mean",
       "KL 99 %", "top-1 same"},
      {Align::kLeft, Align::kLeft, kRight, kRight, kRight, kRight, kRight, kRight, kRight});
  table.add(row(report.baseline, true));
  for (const ModelResult& candidate : report.candidates) table.add(row(candidate, false));
  const PerplexityResult& result = report.baseline.perplexity;
  std::string text = table.render();
  text += fmt::format("\nPerplexity: {}\n", printable(result.method));
  text += fmt::format(
      "{} positions in {} windows are scored; ± is one standard error, that of "
      "ratios from paired windows.\n",
      format_count(result.tokens), format_count(result.windows));
  if (!report.candidates.empty()) {
    text += "KL is the divergence from the baseline over the whole vocabulary, in nats.\n";
  }
  return text;
}

std::string percent(double value) { return fmt::format("{:.2f}", 100 * value); }

std::vector<std::string> choice_row(const ModelResult& model, const std::string& task,
                                    bool is_baseline) {
  const ChoiceResult& result = model.choices.at(task);
  std::vector<std::string> cells = {
      printable(model.name), format_name(model), fmt::format("{:.3f}", model.bits_per_weight),
      percent(result.accuracy.value),
      fmt::format("{} ... {}", percent(result.accuracy.lower), percent(result.accuracy.upper))};
  if (is_baseline) {
    cells.insert(cells.end(), {"-", "-", "-", "-"});
  } else {
    cells.insert(cells.end(), {fmt::format("{:.2f}", -100 * result.difference),
                               fmt::format("{:.2f} ... {:.2f}", -100 * result.difference_upper,
                                           -100 * result.difference_lower),
                               fmt::format("-{} +{}", result.lost, result.gained),
                               fmt::format("{:.3g}", result.mcnemar_p)});
  }
  return cells;
}

std::string choice_table(const EvaluateReport& report, const TaskReport& task) {
  constexpr Align kRight = Align::kRight;
  TextTable table(
      {"Model", "Format", "bits/weight", "accuracy %", "95 %", "loss", "95 %", "flips",
       "McNemar p"},
      {Align::kLeft, Align::kLeft, kRight, kRight, kRight, kRight, kRight, kRight, kRight});
  table.add(choice_row(report.baseline, task.name, true));
  for (const ModelResult& candidate : report.candidates) {
    table.add(choice_row(candidate, task.name, false));
  }
  const ChoiceResult& base = report.baseline.choices.at(task.name);
  std::string text = table.render();
  text += fmt::format("\n{}: {} questions, {}.\n", task.name, format_count(base.accuracy.n),
                      task.method);
  if (task.fewer_shots > 0) {
    text += fmt::format("{} questions fitted with fewer examples only.\n",
                        format_count(task.fewer_shots));
  }
  if (base.target_ppl > 0) {
    text += fmt::format("Perplexity of the words: {} {:.4f}", printable(report.baseline.name),
                        base.target_ppl);
    for (const ModelResult& candidate : report.candidates) {
      text += fmt::format(", {} {:.4f}", printable(candidate.name),
                          candidate.choices.at(task.name).target_ppl);
    }
    text += ".\n";
  }
  if (!report.candidates.empty()) {
    text +=
        "Loss is in percentage points; flips are answers lost and gained; intervals of the loss\n"
        "are of paired differences, between subjects where there are several.\n";
  }
  for (const ModelResult& candidate : report.candidates) {
    text += fmt::format("{}: {}.\n", printable(candidate.name),
                        candidate.choices.at(task.name).verdict);
  }
  text +=
      fmt::format("{} tokens ran, of {} in all prompts; {:.1f} s.\n", format_count(task.tokens_run),
                  format_count(task.prompt_tokens), task.seconds);
  return text;
}

}  // namespace

std::string render(const EvaluateReport& report) {
  std::string text;
  if (report.baseline.perplexity.windows > 0) text = perplexity_table(report);
  for (const TaskReport& task : report.tasks) {
    if (!text.empty()) text += "\n";
    text += choice_table(report, task);
  }
  text += fmt::format("Arithmetic: {}, kernels {}. {:.1f} s, peak memory {}.\n", report.precision,
                      report.kernel, report.seconds, format_bytes(report.peak_rss_bytes));
  for (const std::string& warning : report.warnings) {
    text += fmt::format("Warning: {}\n", printable(warning));
  }
  return text;
}

std::string render(const VerifyReport& report) {
  TextTable table({"precision", "positions", "max abs", "rel L2", "argmax same"},
                  {Align::kLeft, Align::kRight, Align::kRight, Align::kRight, Align::kRight});
  table.add({report.precision, format_count(report.positions),
             fmt::format("{:.3e}", report.max_abs), fmt::format("{:.3e}", report.rel_l2),
             fmt::format("{:.2f} %", 100 * report.argmax_agreement)});
  return table.render();
}

}  // namespace pare::tools
