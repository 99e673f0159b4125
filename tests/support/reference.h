// Where the reference data is: models and golden values that are not part of this repository.
//
//   if (!std::filesystem::exists(reference_dir() + "/golden")) GTEST_SKIP() << reference_dir();
#pragma once

#include <string>

namespace pare::testing {

/// What PARE_REFERENCE_DIR was when CMake configured. Where nothing was given, a path that does not
/// exist and explains itself where a test says why it skips.
std::string reference_dir();

}  // namespace pare::testing
