#include "core/process_memory.h"

#include <sys/resource.h>

namespace pare {

int64_t peak_resident_bytes() noexcept {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;  // Linux counts in KiB.
}

}  // namespace pare
