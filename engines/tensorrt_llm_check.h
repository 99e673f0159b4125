// What TensorRT-LLM's builder would refuse in a checkpoint.
#pragma once

#include <string>

#include "engines/engine_check.h"

namespace pare {

/// Reads configuration, names, types, shapes, scales, and what ranks have to have in common, as
/// PretrainedModel.from_checkpoint() and the parameters of tensorrt_llm do up to version 1.2. With
/// options.tp_size above 1 the folder has to be split for so many ranks. Throws nothing but for
/// files that cannot be listed.
void check_tensorrt_llm(const std::string& folder, const EngineCheckOptions& options,
                        EngineFindings& findings);

}  // namespace pare
