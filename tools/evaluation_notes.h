// What stands below a table: how its figures were computed and what follows from them, in words.
//
// Pure functions; safe from any thread. Each string is one paragraph of plain text.
//
//   for (const std::string& note : task_notes(task)) text += wrapped(note, 80);
#pragma once

#include <span>
#include <string>
#include <vector>

#include "pare/evaluate_report.h"
#include "tools/evaluation_rows.h"

namespace pare::tools {

/// Convention, sizes, what the columns mean, a verdict for each candidate.
std::vector<std::string> task_notes(const TaskRows& task);

/// What the figures of layer_rows() are.
std::string layer_note(const LayerRows& rows);

/// Arithmetic, time, memory and warnings.
std::vector<std::string> run_notes(std::span<const EvaluateReport> reports);

}  // namespace pare::tools
