#include "tools/progress_view.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "pare/error.h"
#include "tools/main_guard.h"
#include "tools/table.h"

namespace pare::tools {
namespace {

using std::chrono::milliseconds;

constexpr size_t kMostColumns = 80;
constexpr milliseconds kBarInterval{100};
constexpr milliseconds kLayerInterval{1000};
constexpr milliseconds kPlainInterval{5000};

bool live_terminal() {
  const char* terminal = std::getenv("TERM");
  return isatty(STDERR_FILENO) == 1 && terminal != nullptr && std::string_view(terminal) != "dumb";
}

// One less than the width: a full line makes some terminals wrap.
size_t terminal_columns() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 2) return kMostColumns - 1;
  return std::min<size_t>(size.ws_col, kMostColumns) - 1;
}

void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

int percent(const Progress& progress) {
  // Rounded down: 100 % is said only when all is done.
  return static_cast<int>(std::clamp(progress.done, 0.0, 1.0) * 100);
}

}  // namespace

ProgressMode parse_progress_mode(std::string_view text) {
  if (text == "auto") return ProgressMode::kAuto;
  if (text == "bar") return ProgressMode::kBar;
  if (text == "plain") return ProgressMode::kPlain;
  if (text == "none") return ProgressMode::kNone;
  throw Error(ErrorCode::kUsage,
              fmt::format("--progress: expected auto, bar, plain or none, found \"{}\"", text));
}

std::string format_duration(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "?";
  const auto whole = std::llround(seconds);
  if (whole < 60) return fmt::format("{}s", whole);
  if (whole < 3600) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  return fmt::format("{}h{:02}m", whole / 3600, whole / 60 % 60);
}

std::string progress_text(const Progress& progress) {
  std::string line = fmt::format("{:3}% {}", percent(progress), progress.phase);
  if (!progress.detail.empty()) line += ": " + progress.detail;
  if (progress.seconds_left >= 0) {
    line += fmt::format(", {} left", format_duration(progress.seconds_left));
  }
  return printable(line);
}

std::string progress_bar(const Progress& progress, size_t columns) {
  constexpr size_t kBarWidth = 16;
  const auto filled = static_cast<size_t>(std::clamp(progress.done, 0.0, 1.0) * kBarWidth);
  std::string head;
  if (columns >= 60) {
    head = fmt::format("[{}{}] ", std::string(filled, '#'), std::string(kBarWidth - filled, '-'));
  }
  head += fmt::format("{:3}% {}", percent(progress), printable(progress.phase));
  std::string tail;
  if (progress.seconds_left >= 0) {
    tail = fmt::format("  {} left", format_duration(progress.seconds_left));
  }
  const size_t taken = display_width(head) + 2 + display_width(tail);
  if (!progress.detail.empty() && taken + 4 <= columns) {
    head += "  " + shortened(printable(progress.detail), columns - taken);
  }
  return shortened(head + tail, columns);
}

ProgressView::ProgressView(std::string program, ProgressMode mode)
    : program_(std::move(program)), mode_(mode) {
  if (mode_ == ProgressMode::kAuto) {
    mode_ = live_terminal() ? ProgressMode::kBar : ProgressMode::kPlain;
  }
}

ProgressView::~ProgressView() { clear(); }

void ProgressView::update(const Progress& progress) {
  if (mode_ == ProgressMode::kNone) return;
  const auto now = Clock::now();
  const auto since = now - last_output_;
  const bool first = !std::exchange(updated_, true);
  if (mode_ == ProgressMode::kBar) {
    if (!first && since < kBarInterval && progress.done < 1) return;
    print("\r\x1b[K" + progress_bar(progress, terminal_columns()));
    line_shown_ = true;
  } else {
    const bool new_phase = first || progress.phase != last_phase_;
    const bool new_layer = progress.detail != last_detail_;
    if (!new_phase && !(new_layer && since >= kLayerInterval) && since < kPlainInterval) return;
    print(fmt::format("{}: {}\n", program_, progress_text(progress)));
  }
  last_output_ = now;
  last_phase_ = progress.phase;
  last_detail_ = progress.detail;
}

void ProgressView::warn(std::string_view message) {
  clear();
  const char* label = use_color() ? "\x1b[1;33mwarning:\x1b[0m" : "warning:";
  print(fmt::format("{}: {} {}\n", program_, label, printable(message)));
}

void ProgressView::clear() {
  if (line_shown_) print("\r\x1b[K");
  line_shown_ = false;
}

Callbacks ProgressView::callbacks() {
  Callbacks callbacks;
  callbacks.on_progress = [this](const Progress& progress) { update(progress); };
  callbacks.on_warning = [this](const std::string& message) { warn(message); };
  callbacks.cancelled = [] { return interrupted(); };
  return callbacks;
}

}  // namespace pare::tools
