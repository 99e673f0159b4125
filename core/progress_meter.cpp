#include "core/progress_meter.h"

#include <algorithm>
#include <utility>

#include "pare/error.h"

namespace pare {
namespace {

constexpr std::chrono::milliseconds kReportInterval{100};

// A rate measured over less time or work than this says little about what is left.
constexpr double kSecondsBeforeEstimate = 0.5;
constexpr double kShareBeforeEstimate = 0.005;

}  // namespace

ProgressMeter::ProgressMeter(const Callbacks& callbacks, double total_cost)
    : callbacks_(callbacks), total_(total_cost), start_(Clock::now()), last_report_(start_) {}

void ProgressMeter::set_total(double total_cost) {
  total_ = total_cost;
  if (done_ <= 0) start_ = Clock::now();
}

void ProgressMeter::begin_part(size_t index, size_t count) {
  part_ = index;
  parts_ = count;
  total_ = 0;
  done_ = 0;
}

void ProgressMeter::phase(std::string name, std::string detail) {
  const bool is_new = name != progress_.phase;
  progress_.phase = std::move(name);
  progress_.detail = std::move(detail);
  report(is_new);
}

void ProgressMeter::advance(double cost) {
  done_ += cost;
  report(false);
}

void ProgressMeter::check_cancelled() const {
  if (cancelled()) throw Error(ErrorCode::kInterrupted, "interrupted: stopped by the caller");
}

bool ProgressMeter::cancelled() const { return callbacks_.cancelled && callbacks_.cancelled(); }

void ProgressMeter::warn(const std::string& message) const {
  if (callbacks_.on_warning) callbacks_.on_warning(message);
}

void ProgressMeter::report(bool force) {
  if (!callbacks_.on_progress) return;
  const Clock::time_point now = Clock::now();
  const bool part_complete = total_ > 0 && done_ >= total_;
  const bool complete = part_complete && part_ + 1 == parts_;
  if (!force && !complete && now - last_report_ < kReportInterval) return;
  last_report_ = now;
  const double share = total_ > 0 ? std::clamp(done_ / total_, 0.0, 1.0) : 0;
  // A total that is corrected upwards must not move the bar back.
  const auto parts = static_cast<double>(parts_);
  progress_.done = std::max(progress_.done, (static_cast<double>(part_) + share) / parts);
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const bool measured = elapsed >= kSecondsBeforeEstimate && share >= kShareBeforeEstimate;
  // Parts that are to come are taken to be as long as this one.
  const double left = static_cast<double>(parts_ - part_) - share;
  progress_.seconds_left = measured ? elapsed * left / share : -1;
  if (complete) progress_.seconds_left = 0;
  callbacks_.on_progress(progress_);
}

}  // namespace pare
