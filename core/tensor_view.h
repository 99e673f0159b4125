// A tensor somebody else owns: bytes, element type and shape.
//
// Views are cheap to copy and never own; the mapping or vector behind them must outlive them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace pare {

using Shape = std::vector<int64_t>;

/// Number of elements. Throws Error(kInputMalformed) when a dimension is negative or the product
/// does not fit in 63 bits.
int64_t element_count(const Shape& shape);

/// "[640, 1792]"
std::string shape_text(const Shape& shape);

struct TensorView {
  DType dtype = DType::kF32;
  Shape shape;
  std::span<const std::byte>
      bytes;  ///< Row-major, little-endian, not necessarily aligned to dtype.
};

/// Copies a floating-point tensor (F32, F16 or BF16) to float. Throws Error(kInputMalformed) for
/// other types; `name` is for the message.
std::vector<float> to_f32(const TensorView& view, const std::string& name);

/// Copies a floating-point tensor to bfloat16 bits, rounding F32 and F16 to nearest even.
std::vector<uint16_t> to_bf16(const TensorView& view, const std::string& name);

}  // namespace pare
