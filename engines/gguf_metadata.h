// What a GGUF file says about a model beside its tensors: its shape, and its tokenizer.
//
//   GgufMetadata metadata;
//   const std::vector<float> divisors = add_gguf_shape(model, architecture, metadata, warnings);
//   add_gguf_vocabulary(model, metadata, warnings);
#pragma once

#include <string>
#include <vector>

#include "engines/gguf_writer.h"
#include "formats/gguf_names.h"
#include "model/model_files.h"

namespace pare {

/// Adds "<architecture>.*". Returns the divisors of the rotary frequencies, one for each pair of
/// channels, that go to "rope_freqs.weight"; empty: none. Throws Error(kInputMalformed) for what
/// the architecture does not do in llama.cpp, and warns of what it does otherwise.
std::vector<float> add_gguf_shape(const ModelFiles& model, const GgufArchitecture& architecture,
                                  GgufMetadata& metadata, std::vector<std::string>& warnings);

/// Adds "tokenizer.*", as many tokens as the embedding has rows. A model without a tokenizer gets
/// none, with a warning. Throws Error(kInputMalformed) for a tokenizer that llama.cpp does not
/// have.
void add_gguf_vocabulary(const ModelFiles& model, GgufMetadata& metadata,
                         std::vector<std::string>& warnings);

}  // namespace pare
