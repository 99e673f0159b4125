// A file that appears complete or not at all.
//
// The temporary is created at once, in the same folder, so that an unwritable place is known
// before the work and not after it. Destroyed without commit(), it leaves nothing. Not
// thread-safe.
//
//   ReportFile file("eval.json");   // throws Error(kWriteFailed)
//   file.commit(to_json(report));
#pragma once

#include <string>
#include <string_view>

namespace pare::tools {

class ReportFile {
 public:
  explicit ReportFile(std::string path);
  ~ReportFile();
  ReportFile(const ReportFile&) = delete;
  ReportFile& operator=(const ReportFile&) = delete;

  /// Writes, syncs and renames over what was there. Call once. Throws Error(kWriteFailed).
  void commit(std::string_view text);

 private:
  [[noreturn]] void fail(std::string_view action) const;

  std::string path_;
  std::string temporary_;
  int descriptor_ = -1;
};

}  // namespace pare::tools
