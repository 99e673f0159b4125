// A figure with what is known of its error.
//
//   const pare::Measured ratio{1.01, 0.002, pare::Interval{1.006, 1.014}};
//   if (ratio.interval && !ratio.interval->contains(1)) std::puts("worse than the baseline");
#pragma once

#include <optional>

namespace pare {

/// Of all intervals: in 95 of 100 repetitions with other data of the kind they hold the truth.
inline constexpr double kConfidence = 0.95;

struct Interval {
  double lower = 0;
  double upper = 0;

  bool contains(double value) const { return lower <= value && value <= upper; }
};

/// A figure with its standard error and its interval.
struct Measured {
  double value = 0;
  double standard_error = 0;         ///< 0 where it cannot be estimated; then look at `interval`.
  std::optional<Interval> interval;  ///< Absent where the data cannot give one.
};

}  // namespace pare
