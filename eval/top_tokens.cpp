#include "eval/top_tokens.h"

#include <algorithm>
#include <limits>

#include "kernels/vector_math.h"

namespace pare {
namespace {

// Blocks whose maximum is not among the largest so far, which is nearly all, are passed over at the
// speed of a vectorised maximum.
constexpr size_t kBlock = 512;

}  // namespace

std::array<int32_t, kTopTokens> top_tokens(std::span<const float> logits) {
  std::array<int32_t, kTopTokens> best{};
  best.fill(-1);
  std::array<float, kTopTokens> value{};
  value.fill(-std::numeric_limits<float>::infinity());
  for (size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const std::span<const float> block =
        logits.subspan(begin, std::min(kBlock, logits.size() - begin));
    if (best.back() >= 0 && max_row(block) <= value.back()) continue;
    for (size_t i = 0; i < block.size(); ++i) {
      const bool free = best.back() < 0 && block[i] == block[i];
      if (!(block[i] > value.back()) && !free) continue;
      size_t place = kTopTokens - 1;
      for (; place > 0 && (best[place - 1] < 0 || block[i] > value[place - 1]); --place) {
        best[place] = best[place - 1];
        value[place] = value[place - 1];
      }
      best[place] = static_cast<int32_t>(begin + i);
      value[place] = block[i];
    }
  }
  return best;
}

int common_tokens(const std::array<int32_t, kTopTokens>& a,
                  const std::array<int32_t, kTopTokens>& b) {
  int count = 0;
  for (const int32_t token : a) {
    count += token >= 0 && std::find(b.begin(), b.end(), token) != b.end();
  }
  return count;
}

}  // namespace pare
