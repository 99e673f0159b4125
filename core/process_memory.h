// What the process has used of the machine's memory.
#pragma once

#include <cstdint>

namespace pare {

/// Largest resident set of this process so far, in bytes, mapped files included.
int64_t peak_resident_bytes() noexcept;

}  // namespace pare
