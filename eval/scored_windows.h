// Windows of a text and which of their positions are scored: what a convention of perplexity is.
//
// A score belongs to a token that is predicted from those before it in its window. Values for
// every score are kept in one array, window after window.
//
//   ScoredWindows text = read_scored_windows("perplexity_llama", options, model);
//   text.first[3] … text.first[4]   // the scores of window 3
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "calib/token_source.h"

namespace pare {

/// Tokens at positions [begin, end) of a window. 1 ≤ begin < end ≤ length.
struct ScoredRange {
  int64_t begin = 0;
  int64_t end = 0;

  int64_t size() const noexcept { return end - begin; }
};

struct ScoredWindows {
  TokenWindows windows;  ///< Behind its scored range a window may hold padding, which changes
                         ///< nothing: attention is causal.
  std::vector<ScoredRange> ranges;  ///< By window.
  std::vector<size_t> first;        ///< Number of the window's first score; one more than windows.
  /// Windows in a row that are one cluster: those that share context.
  int64_t windows_per_cluster = 1;

  size_t scores() const noexcept { return first.empty() ? 0 : first.back(); }
};

/// The same with `first` counted from `ranges`.
ScoredWindows scored_windows(TokenWindows windows, std::vector<ScoredRange> ranges);

/// Some of the windows, in ascending order. Each is its own cluster if they do not overlap.
ScoredWindows select_windows(const ScoredWindows& all, const std::vector<int64_t>& chosen);

}  // namespace pare
