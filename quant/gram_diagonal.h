// The scale of a Gram matrix, which damping is a share of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace pare {

/// Mean of the diagonal of gram [in, in] over the channels that were ever active; 0 where none was.
template <typename Element>
double mean_live_diagonal(std::span<const Element> gram, int64_t in_features) {
  const auto columns = static_cast<size_t>(in_features);
  double sum = 0;
  size_t live = 0;
  for (size_t i = 0; i < columns; ++i) {
    const auto diagonal = static_cast<double>(gram[i * (columns + 1)]);
    sum += diagonal;  // NaN stays, for the caller's test of the result
    live += diagonal > 0 ? 1 : 0;
  }
  return live > 0 ? sum / static_cast<double>(live) : 0.0;
}

}  // namespace pare
