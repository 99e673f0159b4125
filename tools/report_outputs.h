// Where a result goes: a table on stdout, and the forms of a report into files.
//
// All files are opened before the work, so that what cannot be written is known at once, and
// written after it. Of --json, --csv and --markdown one may be "-": it is printed instead of the
// table.
//
//   OutputOptions options;
//   describe_outputs(app, options);
//   ReportOutputs outputs(options, inputs);
//   outputs.commit({.table = …, .json = …});
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tools/arguments.h"
#include "tools/report_file.h"

namespace pare::tools {

struct OutputOptions {
  std::string json;
  std::string csv;
  std::string markdown;
  std::string page;
  std::string samples;
  bool force = false;
};

/// Adds the options in group "Output".
void describe_outputs(CLI::App& app, OutputOptions& options);

/// The forms of one result; made only where they are asked for.
struct ReportForms {
  std::function<std::string()> table = nullptr;
  std::function<std::string()> json = nullptr;
  std::function<std::string()> csv = nullptr;
  std::function<std::string()> markdown = nullptr;
  std::function<std::string()> page = nullptr;
  std::function<std::string()> samples = nullptr;
};

class ReportOutputs {
 public:
  /// Opens all files. Throws Error(kUsage) for one that would replace an input, for a name that is
  /// given twice, and for two that are "-"; Error(kWriteFailed) for one that cannot be written.
  ReportOutputs(const CLI::App& app, const OutputOptions& options,
                const std::vector<std::string>& inputs);

  /// Writes all files, then prints.
  void commit(const ReportForms& forms);

 private:
  struct Output {
    std::string option;
    std::function<std::string()> ReportForms::*form;
    std::optional<ReportFile> file;  // absent: stdout
  };
  std::vector<std::unique_ptr<Output>> outputs_;
};

}  // namespace pare::tools
