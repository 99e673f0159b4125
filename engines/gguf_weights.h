// Weights of linears as blocks of ggml, with the codes and scales that they have.
//
//   GgufWeightPlan plan = plan_gguf_weight(weight, name);
//   std::vector<std::byte> bytes = gguf_bytes(weight, *plan.type, head_dim);
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/compressed_weight.h"
#include "kernels/ggml_blocks.h"

namespace pare {

/// How a weight is stored, and what that changes.
struct GgufWeightPlan {
  const GgmlType* type = nullptr;
  bool uneven = false;         ///< BF16 because its rows or groups are not whole blocks of 32.
  bool scaled = false;         ///< BF16 because nothing absorbed scales of its input.
  bool rounds_inputs = false;  ///< Inputs are rounded where it was measured.
  int64_t small_scales = 0;    ///< Scales that F16 has only with fewer digits, or not at all.
  double largest_change = 0;   ///< Of a scale by F16, relative.
};

/// Q4_0: INT4; Q4_1: INT4 with zero points; Q8_0: INT8; MXFP4; everything else BF16. Throws
/// Error(kInputMalformed), naming `name`, for a scale that F16 has no room for.
GgufWeightPlan plan_gguf_weight(const CompressedWeight& weight, const std::string& name);

/// What the weight is worth in that type, [out, in]: code × f16(scale), for Q4_1 code × d + m with
/// d = f16(scale), m = f16(−zero_point × d); BF16 rounded, with pre_quant_scale multiplied in.
std::vector<float> gguf_values(const CompressedWeight& weight, const GgmlType& type);

/// Its blocks, rows as they are, or with a head width in the order of neighbouring pairs.
std::vector<std::byte> gguf_bytes(const CompressedWeight& weight, const GgmlType& type,
                                  int64_t head_dim);

}  // namespace pare
