// Whether a model fits TensorRT-LLM's checkpoint, and its split between ranks.
//
//   for (const TrtHalf& half : plan_tensorrt_llm(graph, /*tp_size=*/4, /*pp_size=*/1)) …
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/linear_scheme.h"
#include "formats/tensorrt_llm_config.h"
#include "formats/tensorrt_llm_layout.h"
#include "model/block_graph.h"

namespace pare {

/// One half of an encoder-decoder model, or a whole decoder.
struct TrtHalf {
  std::string label;  ///< "", "encoder/" or "decoder/"
  TrtLayout layout;
};

/// The layouts of a model, the encoder's first. Reads no tensor. Throws Error(kInputMalformed) for
/// a family that TensorRT-LLM's tables do not name or a variant that its configuration cannot say,
/// Error(kUsage) for a split that cannot be done, naming the sizes and what would do.
std::vector<TrtHalf> plan_tensorrt_llm(const ModelGraph& graph, int64_t tp_size, int64_t pp_size);

/// Throws Error(kUsage), naming the linear, where its columns or rows cannot be split with this
/// scheme; Error(kInputMalformed) for a scheme that the form has no place for.
void check_trt_linear(const TrtFamily& family, const TrtLinear& linear, const TrtScheme& scheme);

/// What holds `scheme`. Throws Error(kInputMalformed), its message beginning with `subject`, for
/// one that the form has no place for, with what to do.
TrtScheme trt_scheme(const LinearScheme& scheme, const std::string& subject);

}  // namespace pare
