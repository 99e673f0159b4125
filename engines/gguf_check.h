// What llama.cpp would refuse in a GGUF file, or run wrongly.
//
//   EngineFindings findings;
//   check_gguf("llama-gguf", {}, findings);
#pragma once

#include <string>

#include "engines/engine_check.h"

namespace pare {

/// `path` is a file, or a folder that holds one. Reads all of it: keys and tensors that the
/// architecture needs, their shapes and types, lists of the tokenizer against the embedding, and
/// blocks whose scales are no finite numbers. What makes the file unreadable is one refusal. Throws
/// Error(kInputMissing) when there is nothing at `path`.
void check_gguf(const std::string& path, const EngineCheckOptions& options,
                EngineFindings& findings);

}  // namespace pare
