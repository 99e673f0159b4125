// Runs a program the way a shell does, for tests of what users see.
//
//   const Finished run = run_program(PARE_QUANTIZE, {"--help"});
//   EXPECT_EQ(run.status, 0);
//
// A Program owns its child process: one that is still running is killed and reaped.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace pare::testing {

/// A folder that is removed with what is in it.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

/// How a program ended and what it said.
struct Finished {
  int status = -1;  ///< Exit status, or 128 + signal as in a shell.
  std::string out;
  std::string err;
};

struct RunOptions {
  std::map<std::string, std::string> environment = {};  ///< Added to the test's own.
  int64_t file_size_limit = -1;  ///< RLIMIT_FSIZE in bytes: a disk that is full.
  std::string stdout_path = "";  ///< Instead of capturing, for example /dev/full.
  bool close_stdout = false;
};

/// A program that runs beside the test.
class Program {
 public:
  Program(const std::string& program, const std::vector<std::string>& arguments,
          const RunOptions& options = {});
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void send(int signal) const;
  bool running();

  /// What it has written so far.
  std::string out() const;
  std::string err() const;

  Finished wait();

 private:
  TempDir streams_;
  pid_t pid_ = -1;
  int raw_status_ = 0;
};

Finished run_program(const std::string& program, const std::vector<std::string>& arguments,
                     const RunOptions& options = {});

std::string read_file(const std::string& path);
void write_file(const std::string& path, const std::string& content);

/// Replaces the one occurrence of `from`; throws std::runtime_error when there is not exactly one.
void edit_file(const std::string& path, const std::string& from, const std::string& to);

/// Names in a folder, sorted.
std::vector<std::string> list_folder(const std::filesystem::path& folder);

/// Calls `condition` until it holds or `limit` has passed; returns whether it held.
template <typename Condition>
bool wait_until(Condition condition, std::chrono::milliseconds limit);

}  // namespace pare::testing

#include <thread>

template <typename Condition>
bool pare::testing::wait_until(Condition condition, std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (std::chrono::steady_clock::now() < end) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return condition();
}
