#include "tools/speculative_table.h"

#include <fmt/format.h>

#include <vector>

#include "tools/main_guard.h"
#include "tools/table.h"

namespace pare::tools {
namespace {

constexpr Align kRight = Align::kRight;
constexpr size_t kColumns = 80;
constexpr size_t kNameColumns = 17;

// Three figures, so that ten of them fit into a line.
std::string short_figure(double value) {
  return value < 9.995 ? fmt::format("{:.2f}", value) : fmt::format("{:.1f}", value);
}

std::string name_of(const SpeculativeModel& model) {
  return shortened_middle(printable(model.model.name), kNameColumns);
}

std::string share(const Measured& figure) {
  if (!figure.interval) return fmt::format("{:.2f}", 100 * figure.value);
  return fmt::format("{:.2f} ± {:.2f}", 100 * figure.value, 100 * figure.standard_error);
}

std::string pair_table(const SpeculativeReport& report) {
  TextTable table({"#", "Draft", "Target", "cost", "sampling %", "greedy %"},
                  {kRight, Align::kLeft, Align::kLeft, kRight, kRight, kRight});
  for (size_t p = 0; p < report.pairs.size(); ++p) {
    const SpeculativePair& pair = report.pairs[p];
    table.add({fmt::format("{}", p + 1), name_of(report.drafts[pair.draft]),
               name_of(report.targets[pair.target]), fmt::format("{:.3f}", pair.cost),
               share(pair.sampling.acceptance), share(pair.greedy.acceptance)});
  }
  return table.render();
}

// A line for each pair and way of decoding: a figure for each draft length, then what `last` says.
template <typename Figure, typename Last>
std::string length_table(const SpeculativeReport& report, const std::string& last_name,
                         const Figure& figure, const Last& last) {
  std::vector<std::string> header = {"#", "decoding"};
  std::vector<Align> align = {kRight, Align::kLeft};
  for (int64_t length = 1; length <= kLongestDraft; ++length) {
    header.push_back(fmt::format("{}", length));
    align.push_back(kRight);
  }
  if (!last_name.empty()) {
    header.push_back(last_name);
    align.push_back(kRight);
  }
  TextTable table(header, align);
  for (size_t p = 0; p < report.pairs.size(); ++p) {
    const auto add = [&](const char* name, const SpeculativeDecoding& decoding) {
      std::vector<std::string> cells = {fmt::format("{}", p + 1), name};
      for (const DraftLength& length : decoding.lengths) {
        cells.push_back(short_figure(figure(length)));
      }
      if (!last_name.empty()) cells.push_back(last(decoding));
      table.add(std::move(cells));
    };
    add("sampling", report.pairs[p].sampling);
    add("greedy", report.pairs[p].greedy);
  }
  return table.render();
}

}  // namespace

std::string render(const SpeculativeReport& report) {
  std::string text = "Acceptance of a drafted token\n";
  text += pair_table(report);
  text += "\nExpected accepted tokens by draft length\n";
  text += length_table(
      report, "", [](const DraftLength& length) { return length.accepted.value; },
      [](const SpeculativeDecoding&) { return std::string(); });
  text += "\nExpected speed-up by draft length\n";
  text += length_table(
      report, "best", [](const DraftLength& length) { return length.speedup.value; },
      [](const SpeculativeDecoding& decoding) {
        return decoding.best_draft_length == 0 ? std::string("none")
                                               : fmt::format("{}", decoding.best_draft_length);
      });
  text += "\n" + wrapped(printable("Method: " + report.method + "."), kColumns);
  text +=
      wrapped(fmt::format("{} positions in {} windows; ± is one standard error. \"best\" is the "
                          "draft length of the largest speed-up; \"none\": no draft is faster than "
                          "the target alone.",
                          format_count(report.tokens), format_count(report.windows)),
              kColumns);
  text +=
      wrapped(fmt::format("Arithmetic: {}, kernels {}. {:.1f} s, peak memory {}.", report.precision,
                          report.kernel, report.seconds, format_bytes(report.peak_rss_bytes)),
              kColumns);
  for (const std::string& warning : report.warnings) {
    text += wrapped(printable("Warning: " + warning), kColumns);
  }
  return text;
}

}  // namespace pare::tools
