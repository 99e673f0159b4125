// The most likely tokens of a row of logits.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace pare {

inline constexpr size_t kTopTokens = 5;

/// Indices of the largest logits, largest first, of equal ones the lower index first; −1 where a
/// row has fewer. Reads the row once. NaN is never among them.
std::array<int32_t, kTopTokens> top_tokens(std::span<const float> logits);

/// How many of `a` are in `b`; −1 counts for nothing.
int common_tokens(const std::array<int32_t, kTopTokens>& a,
                  const std::array<int32_t, kTopTokens>& b);

}  // namespace pare
