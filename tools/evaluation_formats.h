// The forms of the table, one a source file; render() in evaluation_table.h chooses.
//
// Pure functions; safe from any thread.
//
//   std::string text = text_report(reports);
#pragma once

#include <span>
#include <string>

#include "pare/evaluate_report.h"

namespace pare::tools {

/// For a terminal of 80 columns.
std::string text_report(std::span<const EvaluateReport> reports);

/// For a document: everything, as wide as it is.
std::string markdown_report(std::span<const EvaluateReport> reports);

/// For a program: RFC 4180, a row for each task and model, all figures with all digits.
std::string csv_report(std::span<const EvaluateReport> reports);

}  // namespace pare::tools
