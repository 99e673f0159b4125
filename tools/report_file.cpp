#include "tools/report_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <optional>
#include <utility>

#include "pare/error.h"

namespace pare::tools {
namespace {

namespace fs = std::filesystem;

bool same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

// What a name leads to, if anything.
std::optional<struct stat> status_of(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return std::nullopt;
  return status;
}

// /dev/stdout may lead to a regular file, which the shell has opened for this very output. Only
// the system has names there, and they are not to be replaced.
bool is_system_name(const std::string& path) {
  return path.starts_with("/dev/") || path.starts_with("/proc/");
}

// Whether `path` leads to `input`, or to a file in it.
bool belongs_to(const struct stat& status, const std::string& input) {
  const auto found = status_of(input);
  if (!found) return false;
  if (same_file(status, *found)) return true;
  if (!S_ISDIR(found->st_mode)) return false;
  std::error_code error;
  for (fs::directory_iterator entry(input, error), end; !error && entry != end;
       entry.increment(error)) {
    const auto inside = status_of(entry->path().string());
    if (inside && same_file(status, *inside)) return true;
  }
  return false;
}

}  // namespace

void check_report_path(const std::string& path, const std::vector<std::string>& inputs,
                       std::string_view option) {
  if (path.empty()) {
    throw Error(ErrorCode::kUsage, fmt::format("{}: the name of the file is empty", option));
  }
  if (path.starts_with('-')) {
    throw Error(ErrorCode::kUsage,
                fmt::format("{}: \"{}\" looks like an option; expected a file; ./{} names such a "
                            "file",
                            option, path, path));
  }
  const auto status = status_of(path);
  const bool is_kept = status && (S_ISREG(status->st_mode) || S_ISDIR(status->st_mode));
  for (const std::string& input : is_kept ? inputs : std::vector<std::string>{}) {
    if (!belongs_to(*status, input)) continue;
    throw Error(
        ErrorCode::kUsage,
        fmt::format("{} {} would replace an input, {}; give another name", option, path, input));
  }
  // A slip of the keyboard must not cost a model.
  for (const char* ending : {".h5", ".safetensors", ".gguf"}) {
    if (!path.ends_with(ending)) continue;
    throw Error(ErrorCode::kUsage, fmt::format("{} {} has the name of a model; a report would take "
                                               "its place, give another name",
                                               option, path));
  }
}

ReportFile::ReportFile(std::string path, bool force) : path_(std::move(path)), force_(force) {
  const auto status = status_of(path_);
  if (status && S_ISDIR(status->st_mode)) {
    errno = EISDIR;
    fail("write");
  }
  if (status && (!S_ISREG(status->st_mode) || is_system_name(path_))) {
    open_stream();
    return;
  }
  struct stat ignored {};
  // A link that leads nowhere is something to keep too.
  if (!force_ && lstat(path_.c_str(), &ignored) == 0) refuse_existing();
  temporary_ = fmt::format("{}.tmp-{}", path_, getpid());
  descriptor_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail("create");
}

ReportFile::~ReportFile() {
  if (descriptor_ < 0) return;
  close(descriptor_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void ReportFile::open_stream() {
  const auto status = status_of(path_);
  // A second opening of a redirected stdout would have a position of its own, and the table would
  // be written over the report.
  for (const int standard : {STDOUT_FILENO, STDERR_FILENO}) {
    struct stat opened {};
    if (status && fstat(standard, &opened) == 0 && same_file(*status, opened)) {
      descriptor_ = fcntl(standard, F_DUPFD_CLOEXEC, 3);
      if (descriptor_ < 0) fail("write");
      return;
    }
  }
  descriptor_ = open(path_.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
  if (descriptor_ < 0) fail("open");
}

void ReportFile::commit(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(descriptor_, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("write");
    text.remove_prefix(static_cast<size_t>(written));
  }
  if (!temporary_.empty()) put_in_place();
  close(std::exchange(descriptor_, -1));
}

void ReportFile::put_in_place() {
  if (fsync(descriptor_) != 0) fail("sync");
  if (!force_) {
    const int done =
        renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), RENAME_NOREPLACE);
    if (done == 0) return;
    if (errno == EEXIST) refuse_existing();  // It came while the work went on.
    if (errno != EINVAL && errno != ENOSYS) fail("rename to");
    // Some file systems have no such renaming.
  }
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail("rename to");
}

void ReportFile::refuse_existing() const {
  throw Error(ErrorCode::kWriteFailed,
              path_ + ": exists already; add --force to replace it, or give another name");
}

void ReportFile::fail(std::string_view action) const {
  throw Error(ErrorCode::kWriteFailed,
              fmt::format("{}: cannot {}: {}", path_, action, std::strerror(errno)));
}

}  // namespace pare::tools
