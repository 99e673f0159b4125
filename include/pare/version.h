// Which pare this is.
#pragma once

#include <string>

#include "pare/export.h"

namespace pare {

/// "0.1.0"
PARE_EXPORT std::string version();

/// Several lines: version, compiler, libraries, and the instruction sets in use.
PARE_EXPORT std::string version_details();

}  // namespace pare
