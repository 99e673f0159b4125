// MXFP4 expert weights, as gpt-oss is released, as dense BF16 tensors.
//
// OCP Microscaling Formats 1.0: 32 codes of E2M1 share one power of two, E8M0 (exponent + 127).
//   W_blocks  U8 [experts, out, in / 32, 16]   two codes a byte, the low four bits first
//   W_scales  U8 [experts, out, in / 32]
// stand for W, BF16 [experts, in, out]: the layout of the same model in BF16, whose rows are
// inputs. Every value is exact in BF16.
//
// Shares ownership of the base; thread-safe. A part of W decodes only the codes that it needs.
//
//   auto source = make_mxfp4_source(std::move(folder));
//   TensorView expert = source->dense_part("model.layers.0.mlp.experts.down_proj", e * n, n);
#pragma once

#include <memory>

#include "formats/weight_source.h"

namespace pare {

/// Shows every pair W_blocks, W_scales of `base` as W. Throws Error(kInputMalformed), naming both,
/// when one is without the other, the shapes do not fit, or W is there too. Scales that are NaN and
/// values beyond BF16 are Error(kNonFinite) when the tensor is read.
std::unique_ptr<WeightSource> make_mxfp4_source(std::shared_ptr<const WeightSource> base);

}  // namespace pare
