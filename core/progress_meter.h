// Turns finished work into calls of Callbacks::on_progress, with a share and the time left.
//
// The cost of a call is estimated up front in any unit (multiplications, bytes); finished work is
// added in the same unit. Keeps a reference to the callbacks, which must outlive it. Not safe for
// use from several threads: a meter belongs to the thread that called the library.
//
//   ProgressMeter meter(callbacks, /*total_cost=*/layers * cost_of_layer + cost_of_head);
//   meter.phase("evaluate", "layer 3 of 32");
//   run_layer();
//   meter.advance(cost_of_layer);
//   meter.check_cancelled();
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

#include "pare/progress.h"

namespace pare {

class ProgressMeter {
 public:
  /// `total_cost` of the whole call; zero or less reports no share until the end.
  ProgressMeter(const Callbacks& callbacks, double total_cost);

  /// Replaces the total when it is known better. What is done stays done. Time before the first
  /// finished work does not count for the estimate when the total is set then.
  void set_total(double total_cost);

  /// Work of several kinds whose costs are known one after the other: part `index` of `count`
  /// begins, with no cost of its own yet. Each takes the same share of the bar.
  void begin_part(size_t index, size_t count);

  /// What is worked on from now on. Reported at once when the phase is new, else at most about ten
  /// times a second, as all progress.
  void phase(std::string name, std::string detail);

  /// Adds finished work.
  void advance(double cost);

  /// Throws Error(kInterrupted) when the caller wants the call to stop.
  void check_cancelled() const;
  bool cancelled() const;

  /// Passes a warning on.
  void warn(const std::string& message) const;

 private:
  using Clock = std::chrono::steady_clock;

  void report(bool force);

  const Callbacks& callbacks_;
  double total_;
  double done_ = 0;
  size_t part_ = 0;
  size_t parts_ = 1;
  Progress progress_;
  Clock::time_point start_;
  Clock::time_point last_report_;
};

}  // namespace pare
