// A model with a LoRA adapter merged into its weights.
//
// The weight of an adapted module is computed in FP32 and rounded to the type that the base stores
// it in, as PEFT's merge_and_unload() does with an adapter in FP32; whole tensors of the adapter
// replace the model's and take its type. Sums run over the rank in order, so that the bytes depend
// neither on threads nor on how a tensor is cut. Weights are merged when they are asked for.
//
// Shares ownership of both; thread-safe. Views of the base, and releasing them, are independent of
// this source.
//
//   auto adapter = std::make_shared<const LoraAdapter>(LoraAdapter::open("my-adapter"));
//   auto merged = make_merged_source(base, adapter);
#pragma once

#include <memory>

#include "formats/lora_adapter.h"
#include "formats/weight_source.h"

namespace pare {

/// Throws Error(kInputMalformed), naming tensor and adapter, when a tensor of the adapter matches
/// nothing in the model, its shape does not fit, or the weight is compressed; Error(kNonFinite)
/// when a merged weight that is read is not finite. sha256() covers the base and the adapter;
/// stored_bytes() is the base's.
std::unique_ptr<WeightSource> make_merged_source(std::shared_ptr<const WeightSource> base,
                                                 std::shared_ptr<const LoraAdapter> adapter);

}  // namespace pare
