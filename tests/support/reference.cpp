#include "tests/support/reference.h"

namespace pare::testing {

std::string reference_dir() { return PARE_REFERENCE_DIR; }

}  // namespace pare::testing
