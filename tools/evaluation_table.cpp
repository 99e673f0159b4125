#include "tools/evaluation_table.h"

#include <fmt/format.h>

#include "tools/evaluation_figures.h"
#include "tools/evaluation_formats.h"
#include "tools/plain_text.h"
#include "tools/table.h"

namespace pare::tools {

std::string render(std::span<const EvaluateReport> reports, TableFormat format) {
  switch (format) {
    case TableFormat::kMarkdown:
      return markdown_report(reports);
    case TableFormat::kCsv:
      return csv_report(reports);
    case TableFormat::kText:
      break;
  }
  return text_report(reports);
}

std::string render(const EvaluateReport& report) {
  return render(std::span(&report, 1), TableFormat::kText);
}

std::string render(const VerifyReport& report) {
  TextTable table({"precision", "positions", "max abs", "rel L2", "argmax same"},
                  {Align::kLeft, Align::kRight, Align::kRight, Align::kRight, Align::kRight});
  table.add({plain_text(report.precision), format_count(report.positions),
             fmt::format("{:.3e}", report.max_abs), fmt::format("{:.3e}", report.rel_l2),
             percent_sign(report.argmax_agreement)});
  if (report.note.empty()) return table.render();
  return table.render() + "\nnote: " + plain_text(report.note) + "\n";
}

}  // namespace pare::tools
