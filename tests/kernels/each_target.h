// Runs a test body once for each instruction set that the kernels were compiled for and this
// processor has. Not thread-safe: the choice is process-wide.
//
//   for_each_target([&] { expect_equal(absmax(x), reference::absmax(x)); });
#pragma once

#include <gtest/gtest.h>

#include <functional>

#include "hwy/highway.h"

namespace pare {

inline void for_each_target(const std::function<void()>& body) {
  const auto targets = hwy::SupportedAndGeneratedTargets();
  ASSERT_FALSE(targets.empty());
  for (const int64_t target : targets) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    body();
    if (testing::Test::HasFatalFailure()) break;
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

/// Sizes on both sides of every vector width in use.
inline constexpr size_t kOddSizes[] = {0,  1,  2,  3,  4,  5,  7,   8,   9,   15,   16,   17,  31,
                                       32, 33, 47, 63, 64, 65, 127, 128, 129, 1000, 1024, 1031};

}  // namespace pare
