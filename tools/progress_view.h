// Shows progress on stderr: one live line on a terminal, plain lines elsewhere.
//
//   ProgressView view("quantize", ProgressMode::kAuto);
//   pare::quantize(options, view.callbacks());
//
// The callbacks refer to the view, which must outlive the call. Used from one thread. The live
// line is removed when the view is destroyed, so that an error message starts on a clean line.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

#include "pare/progress.h"

namespace pare::tools {

enum class ProgressMode { kAuto, kBar, kPlain, kNone };

/// "auto", "bar", "plain" or "none". Throws Error(kUsage).
ProgressMode parse_progress_mode(std::string_view text);

class ProgressView {
 public:
  /// kAuto is kBar on a terminal that is not dumb, else kPlain.
  ProgressView(std::string program, ProgressMode mode);
  ~ProgressView();
  ProgressView(const ProgressView&) = delete;
  ProgressView& operator=(const ProgressView&) = delete;

  void update(const Progress& progress);

  /// Prints a warning above the live line, in every mode.
  void warn(std::string_view message);

  /// Removes the live line.
  void clear();

  /// Progress and warnings go to this view; cancelled when a signal came.
  Callbacks callbacks();

 private:
  using Clock = std::chrono::steady_clock;

  std::string program_;
  ProgressMode mode_;
  bool line_shown_ = false;
  bool updated_ = false;
  Clock::time_point last_output_;
  std::string last_phase_;
  std::string last_detail_;
};

/// The live line, at most `columns` characters: bar, share, phase, detail, time left. Detail is
/// shortened first.
std::string progress_bar(const Progress& progress, size_t columns);

/// The plain line, for example " 43% calibrate: layer 3 of 32, 1m12s left".
std::string progress_text(const Progress& progress);

/// "45s", "1m12s", "2h05m".
std::string format_duration(double seconds);

}  // namespace pare::tools
