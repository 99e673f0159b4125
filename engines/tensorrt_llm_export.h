// TensorRT-LLM's checkpoint: config.json and a file of weights for each rank.
//
//   EngineExport made = export_tensorrt_llm(model, {.tp_size = 2});
#pragma once

#include "engines/engine_export.h"

namespace pare {

/// For tp_size × pp_size ranks. Throws as plan_tensorrt_llm() and plan_trt_linear(): Error(kUsage)
/// for a split that cannot be done, before a tensor is read; Error(kInputMalformed), naming the
/// linear, for what the form cannot hold.
EngineExport export_tensorrt_llm(const ModelFiles& model, const EngineOptions& options);

}  // namespace pare
