// Weights of whole numbers with a scale and a zero point for each group of inputs, as AutoAWQ and
// GPTQ store them: unsigned codes, and scales of all outputs side by side.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/compressed_weight.h"

namespace pare {

struct GroupedCodes {
  int64_t out_features = 0;
  int64_t in_features = 0;
  int bits = 4;                ///< 2, 3, 4 or 8.
  int64_t group_size = 0;      ///< Of in_features; the last may be shorter.
  std::vector<uint8_t> codes;  ///< [out, in], 0 … 2^bits − 1.
  std::vector<uint8_t> zeros;  ///< [out, groups], 0 … 2^bits − 1.
  std::vector<float> scales;   ///< [groups, out].
};

/// The same numbers as a weight. It is symmetric where all zero points are 2^(bits − 1); with eight
/// bits they have to be. Throws Error(kInputMalformed), naming `module`, where they are not.
CompressedWeight grouped_weight(const GroupedCodes& grouped, const std::string& module);

/// The other way: INT4, or symmetric INT8, dense.
GroupedCodes grouped_codes(const CompressedWeight& weight, std::span<const int8_t> dense_codes);

}  // namespace pare
