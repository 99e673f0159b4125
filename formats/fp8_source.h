// FP8 weights with a scale a block, as dense BF16 tensors.
//
// As DeepSeek-V3 is released (DeepSeek-V3 technical report, arXiv:2412.19437, section 3.3;
// Qwen3-FP8 is the same):
//   W            F8_E4M3  [out, in]                          or [experts, out, in]
//   W_scale_inv  F32      [ceil(out / b0), ceil(in / b1)]    or [experts, …, …]; F16, BF16 too
// where the last block of a row or column may be shorter. The element is
//   BF16(code × scale_inv[row / b0, column / b1]),
// multiplied in FP32 and rounded to nearest even. Despite its name the scale multiplies.
//
// Shares ownership of the base; thread-safe. Nothing is decoded before it is asked for.
//
//   auto source = make_fp8_source(std::move(folder), {128, 128});
//   TensorView weight = source->dense("model.layers.3.mlp.up_proj.weight");  // BF16
#pragma once

#include <cstdint>
#include <memory>

#include "formats/weight_source.h"

namespace pare {

/// Rows and columns that share a scale.
struct Fp8Blocks {
  int64_t rows = 128;
  int64_t columns = 128;
};

/// Shows every F8_E4M3 tensor of `base` as BF16 and hides the scales. Throws
/// Error(kInputMalformed), naming tensor and scale, when one is without the other or the shapes do
/// not fit. Codes that are NaN, scales that are not finite, and products beyond BF16 are
/// Error(kNonFinite) when the tensor is read.
std::unique_ptr<WeightSource> make_fp8_source(std::shared_ptr<const WeightSource> base,
                                              const Fp8Blocks& blocks);

}  // namespace pare
