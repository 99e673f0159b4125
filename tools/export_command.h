// quantize export: a checkpoint in the form of an engine.
#pragma once

#include <string>
#include <vector>

#include "pare/engines.h"

namespace pare::tools {

/// Runs `quantize export` with the arguments behind the word; returns the exit status. Throws
/// pare::Error.
int run_export(std::vector<std::string> arguments);

/// What was written, in a few lines.
std::string export_summary(const ExportReport& report);

}  // namespace pare::tools
