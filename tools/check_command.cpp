#include "tools/check_command.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>
#include <sstream>

#include "pare/engines.h"
#include "pare/error.h"
#include "tools/arguments.h"
#include "tools/main_guard.h"
#include "tools/table.h"

namespace pare::tools {
namespace {

constexpr size_t kColumns = 80;

// What is said of many layers is said once.
void append(std::string& page, const char* title, const std::vector<CheckFinding>& findings) {
  if (findings.empty()) return;
  page += fmt::format("\n{} ({}):\n", title, findings.size());
  std::vector<std::string> messages;
  std::map<std::string, std::vector<std::string>> subjects;
  for (const CheckFinding& finding : findings) {
    if (!subjects.contains(finding.message)) messages.push_back(finding.message);
    subjects[finding.message].push_back(finding.subject);
  }
  for (const std::string& message : messages) {
    const std::vector<std::string>& named = subjects.at(message);
    const std::string others =
        named.size() == 1 ? "" : fmt::format(" (and {} like it)", named.size() - 1);
    std::istringstream lines(
        wrapped(printable(named.front() + others + " " + message), kColumns - 4));
    const char* indent = "  - ";
    for (std::string line; std::getline(lines, line); indent = "    ") page += indent + line + "\n";
  }
}

std::string rendered(const CheckReport& report) {
  std::string page =
      fmt::format("{}: {}, {} quantized linears: {}\n", printable(report.folder),
                  printable(report.format), report.quantized_linears,
                  report.refusals.empty() ? "nothing that an engine would refuse was found"
                                          : "an engine would refuse it");
  append(page, "Refused", report.refusals);
  append(page, "Remarks", report.remarks);
  return page;
}

}  // namespace

int run_check(std::vector<std::string> arguments) {
  CheckOptions options;
  bool json = false;
  bool show_help = false;
  CLI::App app("Reads a folder as an inference engine would and names what it would refuse.");
  app.set_help_flag("");
  app.add_option("folder,--folder", options.folder, "Exported folder; also the first argument")
      ->type_name("DIR")
      ->group("Input");
  app.add_option("--tp_size", options.tp_size, "Tensor parallelism that the engine will use")
      ->type_name("N")
      ->capture_default_str()
      ->group("Input");
  app.add_flag("--json", json, "Result as JSON on stdout; errors too")->group("Output");
  app.add_flag("-h,--help", show_help, "This page")->group("Information");
  parse_arguments(app, std::move(arguments), {});
  if (show_help) {
    write_stdout(help_page(app, "quantize check DIR [options]",
                           {"quantize check llama-int4-vllm --tp_size 2"}) +
                 "\nExit status: 0 when nothing was refused, 4 when something was.\n");
    return 0;
  }
  if (options.folder.empty()) {
    throw Error(ErrorCode::kUsage, "no folder given; usage: quantize check DIR");
  }
  const CheckReport report = check_folder(options);
  write_stdout(json ? to_json(report) + "\n" : rendered(report));
  return report.refusals.empty() ? 0 : static_cast<int>(ErrorCode::kInputMalformed);
}

}  // namespace pare::tools
