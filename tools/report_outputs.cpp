#include "tools/report_outputs.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <system_error>

#include "pare/error.h"
#include "tools/main_guard.h"

namespace pare::tools {

void describe_outputs(CLI::App& app, OutputOptions& options) {
  const auto add = [&](const char* name, std::string& value, const char* type, const char* text) {
    app.add_option(name, value, text)->type_name(type)->group("Output");
  };
  add("--json", options.json, "FILE", "Result as JSON; - prints it instead of the table");
  add("--report", options.page, "FILE.html", "Result as a page that opens without a network");
  add("--markdown", options.markdown, "FILE", "Tables for a model card; - prints them");
  add("--csv", options.csv, "FILE", "A line a task and candidate, all digits; - prints it");
  add("--log_samples", options.samples, "FILE.jsonl",
      "A line a question: log-likelihoods of all choices in all models");
  app.add_flag("--force", options.force, "Replace existing files, after success only")
      ->group("Output");
}

ReportOutputs::ReportOutputs(const CLI::App& app, const OutputOptions& options,
                             const std::vector<std::string>& inputs) {
  std::string printed;
  std::vector<std::string> paths;
  const auto add = [&](const char* option, const std::string& path,
                       std::function<std::string()> ReportForms::*form, bool may_print) {
    const CLI::Option* known = app.get_option_no_throw(option);
    if (known == nullptr || known->count() == 0) return;
    auto output = std::make_unique<Output>();
    output->option = option;
    output->form = form;
    if (path == "-" && may_print) {
      if (!printed.empty()) {
        throw Error(ErrorCode::kUsage, fmt::format("{} - and {} - would both go to stdout; give "
                                                   "one of them a file",
                                                   printed, option));
      }
      printed = option;
    } else {
      check_report_path(path, inputs, option);
      // ./a and a are one file.
      std::error_code ignored;
      const std::string place = std::filesystem::weakly_canonical(path, ignored).string();
      if (std::find(paths.begin(), paths.end(), place) != paths.end()) {
        throw Error(ErrorCode::kUsage,
                    fmt::format("{}: {} is the name of another output too", option, path));
      }
      paths.push_back(place);
      output->file.emplace(path, options.force);
    }
    outputs_.push_back(std::move(output));
  };
  add("--json", options.json, &ReportForms::json, true);
  add("--csv", options.csv, &ReportForms::csv, true);
  add("--markdown", options.markdown, &ReportForms::markdown, true);
  add("--report", options.page, &ReportForms::page, false);
  add("--log_samples", options.samples, &ReportForms::samples, false);
}

void ReportOutputs::commit(const ReportForms& forms) {
  const std::function<std::string()>* printed = &forms.table;
  for (const auto& output : outputs_) {
    const auto& form = forms.*(output->form);
    if (output->file) {
      output->file->commit(form());
    } else {
      printed = &form;
    }
  }
  write_stdout((*printed)());
}

}  // namespace pare::tools
