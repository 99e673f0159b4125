#include "formats/input_paths.h"

#include <algorithm>
#include <filesystem>

#include "pare/error.h"

namespace pare {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_read(const std::string& path, const std::error_code& error) {
  throw Error(ErrorCode::kInputMissing, path + ": cannot be read: " + error.message());
}

}  // namespace

PathKind input_kind(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  switch (status.type()) {
    case fs::file_type::not_found:
      return PathKind::kNothing;
    case fs::file_type::regular:
      return PathKind::kFile;
    case fs::file_type::directory:
      return PathKind::kFolder;
    case fs::file_type::none:
      fail_read(path, error);
    default:
      return PathKind::kOther;
  }
}

bool input_file_exists(const std::string& path) {
  switch (input_kind(path)) {
    case PathKind::kNothing:
      return false;
    case PathKind::kFile:
      return true;
    case PathKind::kFolder:
      throw Error(ErrorCode::kInputMalformed, path + ": is a folder, expected a regular file");
    default:
      throw Error(ErrorCode::kInputMalformed, path + ": is not a regular file, expected one");
  }
}

std::vector<std::string> folder_names(const std::string& path, std::error_code& error) {
  std::vector<std::string> names;
  fs::directory_iterator entry(path, error);
  // Not a range-for: its increment throws.
  while (!error && entry != fs::directory_iterator()) {
    names.push_back(entry->path().filename().string());
    entry.increment(error);
  }
  if (error) return {};
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> input_folder_names(const std::string& path) {
  std::error_code error;
  std::vector<std::string> names = folder_names(path, error);
  if (error) fail_read(path, error);
  return names;
}

}  // namespace pare
