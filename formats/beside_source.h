// A model with a LoRA adapter beside it: the adapter's factors are tensors of their own.
//
// For a module X of the adapter there are "X.lora_A.weight" [rank, in] and "X.lora_B.weight" [out,
// rank], F32, the second with the adapter's scale in it; the base's tensors stay as they are. So
// the base can be quantized and the adapter kept. Thread-safe.
//
//   auto source = make_beside_source(open_weight_source("llama"), adapter);
#pragma once

#include <memory>

#include "formats/lora_adapter.h"
#include "formats/weight_source.h"

namespace pare {

inline constexpr const char* kLoraASuffix = ".lora_A.weight";
inline constexpr const char* kLoraBSuffix = ".lora_B.weight";

/// Throws Error(kInputMalformed), naming the adapter, when a module is not in the model, or the
/// adapter holds what cannot stand beside a linear: embeddings, magnitudes (DoRA), whole tensors.
std::unique_ptr<WeightSource> make_beside_source(std::shared_ptr<const WeightSource> base,
                                                 std::shared_ptr<const LoraAdapter> adapter);

}  // namespace pare
