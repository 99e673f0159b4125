#include "eval/scored_windows.h"

#include <utility>

namespace pare {

ScoredWindows scored_windows(TokenWindows windows, std::vector<ScoredRange> ranges) {
  ScoredWindows result;
  result.windows = std::move(windows);
  result.ranges = std::move(ranges);
  result.first.push_back(0);
  for (const ScoredRange& range : result.ranges) {
    result.first.push_back(result.first.back() + static_cast<size_t>(range.size()));
  }
  return result;
}

ScoredWindows select_windows(const ScoredWindows& all, const std::vector<int64_t>& chosen) {
  TokenWindows windows;
  windows.length = all.windows.length;
  windows.count = static_cast<int64_t>(chosen.size());
  std::vector<ScoredRange> ranges;
  for (const int64_t window : chosen) {
    const auto begin = all.windows.ids.begin() + window * windows.length;
    windows.ids.insert(windows.ids.end(), begin, begin + windows.length);
    ranges.push_back(all.ranges[static_cast<size_t>(window)]);
  }
  return scored_windows(std::move(windows), std::move(ranges));
}

}  // namespace pare
