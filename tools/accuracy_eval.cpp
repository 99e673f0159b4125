// accuracy-eval: measures what compression cost. Parses, calls the library, renders.
#include <fmt/format.h>

#include <functional>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "pare/error.h"
#include "pare/evaluate.h"
#include "pare/gates.h"
#include "pare/report_page.h"
#include "pare/speculative.h"
#include "pare/version.h"
#include "tools/evaluation_command.h"
#include "tools/evaluation_table.h"
#include "tools/main_guard.h"
#include "tools/progress_view.h"
#include "tools/report_outputs.h"
#include "tools/speculative_table.h"
#include "tools/table.h"

namespace pare::tools {
namespace {

/// One line naming every failed gate; 0 when there is none. The result is complete and on stdout
/// already: only the verdict is left to say.
int judge(std::span<const EvaluateReport> reports, const Gates& gates) {
  if (!gates.any()) return 0;
  std::string failed;
  for (const EvaluateReport& report : reports) {
    for (const FailedGate& gate : failed_gates(report, gates)) {
      failed += (failed.empty() ? "" : "; ") + gate.message;
    }
  }
  if (failed.empty()) return 0;
  print_error("accuracy-eval", "gate failed: " + failed);
  return static_cast<int>(ErrorCode::kGateFailed);
}

/// Calls `work` with progress on stderr; says what an interruption leaves.
template <typename Work>
auto with_progress(const EvaluationCommand& command, Work work) {
  const ProgressMode mode = parse_progress_mode(command.progress);
  ProgressView view("accuracy-eval", command.quiet ? ProgressMode::kNone : mode);
  Callbacks callbacks = view.callbacks();
  callbacks.on_warning = nullptr;  // They are part of the result.
  try {
    auto result = work(callbacks);
    view.clear();
    return result;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInterrupted) throw;
    throw Error(ErrorCode::kInterrupted,
                command.options.cache.empty()
                    ? std::string("interrupted; no report was written")
                    : fmt::format("interrupted; no report was written. The same command goes on "
                                  "from the last state in {}, which is written after layers, every "
                                  "ten seconds at most",
                                  command.options.cache));
  }
}

ReportForms forms_of(std::span<const EvaluateReport> reports) {
  ReportForms forms;
  forms.table = [=] { return render(reports, TableFormat::kText); };
  forms.markdown = [=] { return render(reports, TableFormat::kMarkdown); };
  forms.csv = [=] { return render(reports, TableFormat::kCsv); };
  forms.page = [=] {
    std::vector<std::string> texts;
    for (const EvaluateReport& report : reports)
      texts.push_back(to_json(report, /*timings=*/false));
    return report_page(texts);
  };
  forms.samples = [=] {
    std::string lines;
    for (const TaskReport& task : reports[0].tasks) lines += task.samples_jsonl;
    return lines;
  };
  return forms;
}

int run_evaluation(const CLI::App& app, EvaluationCommand& command) {
  resolve_evaluation(app, command);
  const EvaluateOptions& options = command.options;
  const Gates gates = parse_gates(app, command);
  std::vector<std::string> inputs = {options.baseline, options.text, options.lora,
                                     options.candidate_lora};
  inputs.insert(inputs.end(), options.candidates.begin(), options.candidates.end());
  for (const auto& [task, path] : options.task_data) inputs.push_back(path);
  ReportOutputs outputs(app, command.outputs, inputs);
  const EvaluateReport report = with_progress(
      command, [&](const Callbacks& callbacks) { return evaluate(options, callbacks); });
  ReportForms forms = forms_of({&report, 1});
  forms.json = [&] { return to_json(report) + "\n"; };
  outputs.commit(forms);
  return judge({&report, 1}, gates);
}

int run_verify(const CLI::App& app, EvaluationCommand& command) {
  resolve_verify(app, command);
  const EvaluateOptions& options = command.options;
  const std::string& model = options.candidates.front();
  ReportOutputs outputs(app, command.outputs, {model, command.golden});
  const VerifyReport report = with_progress(command, [&](const Callbacks& callbacks) {
    return verify(command.golden, model, options.precision, options.threads, callbacks);
  });
  outputs.commit(
      {.table = [&] { return render(report); }, .json = [&] { return to_json(report) + "\n"; }});
  return 0;
}

int run_speculative(const CLI::App& app, EvaluationCommand& command) {
  resolve_speculative(app, command);
  const SpeculativeOptions& options = command.speculative;
  std::vector<std::string> inputs = {options.text};
  inputs.insert(inputs.end(), options.drafts.begin(), options.drafts.end());
  inputs.insert(inputs.end(), options.targets.begin(), options.targets.end());
  ReportOutputs outputs(app, command.outputs, inputs);
  const SpeculativeReport report = with_progress(command, [&](const Callbacks& callbacks) {
    return evaluate_speculative(options, callbacks);
  });
  outputs.commit(
      {.table = [&] { return render(report); }, .json = [&] { return to_json(report) + "\n"; }});
  return 0;
}

int run_compare(const CLI::App& app, EvaluationCommand& command) {
  resolve_compare(app, command);
  const std::vector<std::string>& paths = command.options.candidates;
  const Gates gates = parse_gates(app, command);
  ReportOutputs outputs(app, command.outputs, paths);
  const std::vector<EvaluateReport> reports = read_reports(paths);
  ReportForms forms = forms_of(reports);
  forms.json = [&] { return to_json(reports) + "\n"; };
  outputs.commit(forms);
  return judge(reports, gates);
}

std::string task_list() {
  constexpr size_t kColumns = 80;
  std::string list;
  for (const auto& [name, text] : evaluation_tasks()) {
    std::istringstream lines(wrapped(text, kColumns - 4));
    list += name + "\n";
    for (std::string line; std::getline(lines, line);) list += "    " + line + "\n";
  }
  return list;
}

int run(std::vector<std::string> arguments) {
  const bool compare = !arguments.empty() && arguments.front() == "compare";
  if (compare) arguments.erase(arguments.begin());
  EvaluationCommand command;
  CLI::App app("Measures what compressing a language model cost.");
  app.set_help_flag("");
  describe_evaluation(app, command);
  parse_arguments(app, std::move(arguments), {});
  if (command.help || command.version || command.list_tasks) {
    write_stdout(command.help      ? evaluation_help(app)
                 : command.version ? version_details()
                                   : task_list());
    return 0;
  }
  if (compare) return run_compare(app, command);
  if (app.count("--verify") > 0) return run_verify(app, command);
  if (app.count("--draft") + app.count("--target") > 0) return run_speculative(app, command);
  return run_evaluation(app, command);
}

/// Whether errors belong on stdout as JSON too: "--json -" or "--json=-".
bool json_on_stdout(const std::vector<std::string>& arguments) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--json=-") return true;
    if (arguments[i] == "--json" && i + 1 < arguments.size() && arguments[i + 1] == "-")
      return true;
  }
  return false;
}

}  // namespace
}  // namespace pare::tools

int main(int argc, char** argv) {
  auto arguments = pare::tools::arguments_of(argc, argv);
  const bool json = pare::tools::json_on_stdout(arguments);
  return pare::tools::run_guarded("accuracy-eval", json,
                                  [&] { return pare::tools::run(std::move(arguments)); });
}
