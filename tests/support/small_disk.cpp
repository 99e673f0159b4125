#include "tests/support/small_disk.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace pare::testing {
namespace {

namespace fs = std::filesystem;

std::string reason(const std::string& what) { return what + ": " + std::strerror(errno); }

bool write_once(const char* path, const std::string& text) {
  const int file = ::open(path, O_WRONLY | O_CLOEXEC);
  const bool success =
      file >= 0 && ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (file >= 0) ::close(file);
  return success;
}

/// Enters namespaces in which this process may mount. Returns why not, or nothing.
std::string enter_namespaces() {
  const std::string user = std::to_string(::geteuid());
  const std::string group = std::to_string(::getegid());
  if (::geteuid() == 0 && ::unshare(CLONE_NEWNS) == 0) return {};
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return reason("no mount namespace");
  // Without these the disk's owner would be nobody, and nothing could be created on it.
  if (!write_once("/proc/self/setgroups", "deny") ||
      !write_once("/proc/self/uid_map", "0 " + user + " 1") ||
      !write_once("/proc/self/gid_map", "0 " + group + " 1")) {
    return reason("no user namespace");
  }
  return {};
}

std::string mount_disk(const std::string& folder, int64_t bytes) {
  std::string failed = enter_namespaces();
  if (!failed.empty()) return failed;
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return reason("mounts cannot be made private");
  }
  const std::string options = "mode=0700,size=" + std::to_string(bytes);
  if (::mount("tmpfs", folder.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, options.c_str()) != 0) {
    return reason("no tmpfs can be mounted");
  }
  return {};
}

[[noreturn]] void run_child(const std::string& folder, int64_t bytes, int report,
                            const std::function<void(const std::string&)>& body) {
  const std::string failed = mount_disk(folder, bytes);
  if (!failed.empty()) {
    static_cast<void>(!::write(report, failed.data(), failed.size()));
    ::_exit(0);
  }
  try {
    body(folder);
  } catch (const std::exception& error) {
    ADD_FAILURE() << error.what();
  }
  std::fflush(nullptr);
  ::_exit(::testing::Test::HasFailure() ? 1 : 0);
}

}  // namespace

SmallDiskRun run_on_small_disk(int64_t bytes, const std::function<void(const std::string&)>& body) {
  SmallDiskRun result;
  std::string folder = (fs::temp_directory_path() / "pare-disk-XXXXXX").string();
  int report[2] = {-1, -1};
  if (::mkdtemp(folder.data()) == nullptr || ::pipe2(report, O_CLOEXEC) != 0) {
    result.unavailable = reason("no place for a disk");
    return result;
  }
  std::fflush(nullptr);  // Or the child would print it again.
  const pid_t child = ::fork();
  if (child == 0) run_child(folder, bytes, report[1], body);
  ::close(report[1]);
  char text[256];
  for (ssize_t count = 0; (count = ::read(report[0], text, sizeof text)) > 0;) {
    result.unavailable.append(text, static_cast<size_t>(count));
  }
  ::close(report[0]);
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) {
    result.unavailable = reason("no child process");
  } else {
    result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  ::rmdir(folder.c_str());
  return result;
}

}  // namespace pare::testing
