// What accuracy-eval prints: tables for people, documents and programs.
//
// Pure functions; safe from any thread.
//
//   std::string text = render(std::vector{first, second}, TableFormat::kMarkdown);
#pragma once

#include <span>
#include <string>

#include "pare/evaluate.h"

namespace pare::tools {

enum class TableFormat { kText, kMarkdown, kCsv };

/// A table for each task with how its figures were computed, what follows from them, and the
/// warnings. Rows are grouped by task, then by baseline, in the order given.
std::string render(std::span<const EvaluateReport> reports, TableFormat format);

/// The text of one report.
std::string render(const EvaluateReport& report);

std::string render(const VerifyReport& report);

}  // namespace pare::tools
