#include "tools/report_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "pare/error.h"

namespace pare::tools {

ReportFile::ReportFile(std::string path)
    : path_(std::move(path)), temporary_(fmt::format("{}.tmp-{}", path_, getpid())) {
  struct stat status {};
  if (stat(path_.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    errno = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
    fail("replace (not a regular file)");
  }
  descriptor_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail("create");
}

ReportFile::~ReportFile() {
  if (descriptor_ < 0) return;
  close(descriptor_);
  unlink(temporary_.c_str());
}

void ReportFile::commit(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(descriptor_, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("write");
    text.remove_prefix(static_cast<size_t>(written));
  }
  if (fsync(descriptor_) != 0) fail("sync");
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail("rename to");
  close(std::exchange(descriptor_, -1));
}

void ReportFile::fail(std::string_view action) const {
  throw Error(ErrorCode::kWriteFailed,
              fmt::format("{}: cannot {}: {}", path_, action, std::strerror(errno)));
}

}  // namespace pare::tools
