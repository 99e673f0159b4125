// A report that appears complete or not at all, beside what it must not touch.
//
// The temporary is created at once, in the same folder, so that an unwritable place is known
// before the work and not after it. Destroyed without commit(), it leaves nothing. A device or a
// pipe (/dev/stdout, /dev/null, a FIFO) has nothing to keep: it is opened at once and written to
// by commit(). Not thread-safe.
//
//   check_report_path("eval.json", {"llama-8b", "out.h5", "wiki.test.raw"}, "--json");
//   ReportFile file("eval.json", /*force=*/false);   // throws Error(kWriteFailed)
//   file.commit(to_json(report));
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pare::tools {

/// Throws Error(kUsage) when writing a report to `path` would replace one of `inputs`, files and
/// folders that may not exist, or a file in one of those folders; and when `path` is empty,
/// looks like an option, or ends as models do. Links are followed. `option` is named in the
/// message.
void check_report_path(const std::string& path, const std::vector<std::string>& inputs,
                       std::string_view option);

class ReportFile {
 public:
  /// Throws Error(kWriteFailed), for a file that exists already too unless `force`.
  ReportFile(std::string path, bool force);
  ~ReportFile();
  ReportFile(const ReportFile&) = delete;
  ReportFile& operator=(const ReportFile&) = delete;

  /// Writes; a regular file is synced and renamed to its name then. Call once. Throws
  /// Error(kWriteFailed).
  void commit(std::string_view text);

 private:
  void open_stream();
  void put_in_place();
  [[noreturn]] void refuse_existing() const;
  [[noreturn]] void fail(std::string_view action) const;

  std::string path_;
  std::string temporary_;  ///< Empty for a device or a pipe.
  bool force_ = false;
  int descriptor_ = -1;
};

}  // namespace pare::tools
