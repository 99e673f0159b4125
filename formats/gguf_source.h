// A GGUF file (llama.cpp) as a model: config.json and tokenizer from its metadata, tensors under
// the names of Hugging Face, rows of q and k in the order of Hugging Face.
//
// Linears in Q4_0, Q8_0 and MXFP4 are compressed weights with the file's codes and scales. Q4_0
// whose scales have both signs is asymmetric INT4: d·(q − 8) is |d|·((15 − q) − 7) for negative d.
// F32, F16 and BF16 are shown as they are, every other type is decoded to F32 when it is needed.
//
//   auto source = open_gguf("llama.gguf");
#pragma once

#include <memory>
#include <string>

#include "formats/weight_source.h"

namespace pare {

/// `path` is a file, or a folder that holds one; a tokenizer.json or tokenizer.model in that folder
/// counts instead of the file's own tokenizer. Throws Error(kInputMissing) when it cannot be
/// read, Error(kInputMalformed), naming file and tensor or key, when it is damaged, a part of a
/// split model, of an architecture that is not read, or has a tensor of a type that is not.
std::unique_ptr<WeightSource> open_gguf(const std::string& path);

/// Whether a folder holds GGUF files, and no weights of another kind.
bool is_gguf_folder(const std::string& path);

}  // namespace pare
