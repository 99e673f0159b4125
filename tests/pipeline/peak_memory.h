// Peak resident memory of a piece of work.
#pragma once

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <string>

namespace pare::testing {

/// Of a child process that runs `body`, in bytes. A child, because the peak of a process never
/// falls again.
inline int64_t peak_of(const std::function<void()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    try {
      body();
    } catch (const std::exception& error) {
      static_cast<void>(!write(STDERR_FILENO, error.what(), std::string(error.what()).size()));
      _exit(1);
    }
    _exit(0);
  }
  int status = 0;
  rusage usage{};
  if (wait4(child, &status, 0, &usage) != child || status != 0) {
    ADD_FAILURE() << "the child failed with status " << status;
  }
  return int64_t{usage.ru_maxrss} * 1024;
}

}  // namespace pare::testing
