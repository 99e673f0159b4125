// What the tests of GGUF exports share.
#pragma once

#include <string>

#include "pare/engines.h"

namespace pare::testing {

/// Exports a model; replaces what an earlier export wrote.
ExportReport export_as_gguf(const std::string& checkpoint, const std::string& output,
                            int threads = 2);

/// What check_gguf() refuses in a folder, a line each.
std::string refusals_of(const std::string& folder);

}  // namespace pare::testing
