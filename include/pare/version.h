// Which pare this is.
//
//   static_assert(PARE_VERSION >= 100);           // The headers: 0.1.0 or later.
//   if (pare::version() != PARE_VERSION_STRING) {  // The library that was found when it runs.
//   }
#pragma once

#include <string>

#include "pare/export.h"
#include "pare/version_number.h"

namespace pare {

/// "0.1.0"
PARE_EXPORT std::string version();

/// Several lines: version, compiler, libraries, and the instruction sets in use.
PARE_EXPORT std::string version_details();

}  // namespace pare
