// "quantize check DIR": what an engine would refuse in a folder.
#pragma once

#include <string>
#include <vector>

namespace pare::tools {

/// Parses what stands behind "check", checks, prints. Returns 0, or the status of a malformed input
/// when something was refused.
int run_check(std::vector<std::string> arguments);

}  // namespace pare::tools
