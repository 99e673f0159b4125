// How a compressed linear is stored and how its input is rounded, without its numbers.
#pragma once

#include <compare>
#include <cstdint>

#include "core/compressed_weight.h"

namespace pare {

struct LinearScheme {
  WeightFormat weight = WeightFormat::kBf16;
  ActivationFormat activation = ActivationFormat::kBf16;
  int64_t group_size = kPerTensor;  ///< As CompressedWeight's.
  int64_t block_rows = 1;
  bool symmetric = true;

  auto operator<=>(const LinearScheme&) const = default;  // NOLINT(modernize-use-nullptr)
};

inline LinearScheme scheme_of(const CompressedWeight& weight) noexcept {
  return {weight.format, weight.activation, weight.group_size, weight.block_rows, weight.symmetric};
}

}  // namespace pare
