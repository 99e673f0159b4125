// A disk that fills up for real: a tmpfs of a given size, seen by one child process alone.
//
// A limit on the file size is not enough for that: the library asks for it beforehand, so that the
// system calls never fail.
//
//   const SmallDiskRun run = run_on_small_disk(1 << 20, [](const std::string& disk) {
//     EXPECT_THROW(write_much(disk + "/a.h5"), Error);
//   });
//   if (!run.unavailable.empty()) GTEST_SKIP() << run.unavailable;
//   EXPECT_EQ(run.status, 0);
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace pare::testing {

struct SmallDiskRun {
  std::string unavailable;  ///< Why there is no such disk here; empty when `body` ran.
  int status = -1;          ///< 0: `body` returned and all that it expected holds. As in a shell.
};

/// Mounts a tmpfs of `bytes` (in whole pages) in a mount namespace of its own, with a user
/// namespace where that needs one, and calls `body` with its path in a forked child. What `body`
/// expects is printed by the child. The disk is gone when this returns.
SmallDiskRun run_on_small_disk(int64_t bytes, const std::function<void(const std::string&)>& body);

}  // namespace pare::testing
