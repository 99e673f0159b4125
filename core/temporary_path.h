// A file or folder that is removed however its owner ends.
#pragma once

#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

namespace pare {

class TemporaryPath {
 public:
  /// Removes what an earlier run that was killed has left there.
  explicit TemporaryPath(std::string path) : path_(std::move(path)) { remove(); }
  ~TemporaryPath() { remove(); }
  TemporaryPath(const TemporaryPath&) = delete;
  TemporaryPath& operator=(const TemporaryPath&) = delete;

  const std::string& path() const noexcept { return path_; }

 private:
  void remove() const noexcept {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::string path_;
};

}  // namespace pare
