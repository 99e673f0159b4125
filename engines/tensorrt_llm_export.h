// TensorRT-LLM's checkpoint: config.json and a file of weights for each rank.
//
//   require_tensorrt_llm(survey, {.tp_size = 2});
//   EngineExport made = export_tensorrt_llm(survey, {.tp_size = 2});
#pragma once

#include "engines/engine_export.h"

namespace pare {

/// As the other forms' (engines/engine_export.h), and Error(kUsage) for a split that cannot be
/// done, naming the sizes and what would do.
void require_tensorrt_llm(const LinearSurvey& survey, const EngineOptions& options);

/// For tp_size × pp_size ranks.
EngineExport export_tensorrt_llm(const LinearSurvey& survey, const EngineOptions& options);

}  // namespace pare
