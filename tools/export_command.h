// quantize export: a checkpoint in the form of an engine.
#pragma once

#include <string>
#include <vector>

namespace pare::tools {

/// Runs `quantize export` with the arguments behind the word; returns the exit status. Throws
/// pare::Error.
int run_export(std::vector<std::string> arguments);

}  // namespace pare::tools
