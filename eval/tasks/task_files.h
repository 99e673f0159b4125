// The files that a task is read from: found, checked to be text, and hashed.
//
// Owns nothing but digests. Not safe to share between threads; each read_task has its own.
//
//   TaskFiles files("data/piqa");
//   std::string text = files.read(files.find({"piqa", "", {"val"}}));
//   task.sha256 = files.sha256();
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace pare {

/// Which file of a folder a task wants, by parts of its name in lower case.
struct FileWish {
  std::string_view task;
  std::string_view hint;                 ///< In every name, for folders that hold several tasks.
  std::vector<std::string_view> splits;  ///< What tells files apart, the best first.
};

class TaskFiles {
 public:
  /// `root` is the file or folder that the user named. Throws Error(kInputMissing) when there is
  /// neither.
  explicit TaskFiles(std::string root);

  bool is_folder() const { return is_folder_; }
  const std::string& root() const { return root_; }

  /// The root itself when it is a file, else the file of the folder that fits. Throws
  /// Error(kInputMissing) when none does, Error(kInputMalformed) when several do alike.
  std::string find(const FileWish& wish) const;

  /// The same among the neighbours of `path`, itself excepted; empty when there is none.
  static std::string find_beside(const std::string& path, const FileWish& wish);

  /// A file's text without a byte order mark. Throws Error(kInputMissing) when it cannot be read,
  /// Error(kInputMalformed) when it is empty, or no UTF-8 (with the line).
  std::string read(const std::string& path);

  /// The digest of the file that was read; of several files the digest of the lines that sha256sum
  /// would print for them, sorted by their names relative to the folder.
  std::string sha256() const;

 private:
  std::string root_;
  bool is_folder_ = false;
  std::map<std::string, std::string> digests_;  ///< By relative name.
};

/// Names of the files in `folder` that are not hidden, sorted. Throws Error(kInputMissing).
std::vector<std::string> files_in(const std::string& folder);

/// "FILE:LINE".
std::string at_line(const std::string& path, int64_t line);

/// Throws Error(kInputMalformed) with "WHERE: WHAT".
[[noreturn]] void malformed(const std::string& where, const std::string& what);

/// Without white space at both ends, Unicode's too. REQUIRES: valid UTF-8.
std::string_view stripped(std::string_view text);

}  // namespace pare
