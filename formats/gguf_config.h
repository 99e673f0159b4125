// config.json of a model that is stored as GGUF.
//
//   const std::string config = gguf_config_json(file, *architecture);
#pragma once

#include <string>

#include "formats/gguf_file.h"
#include "formats/gguf_names.h"

namespace pare {

/// The architecture of a file. Throws Error(kInputMalformed) for one that is not known, by name.
const GgufArchitecture& gguf_architecture(const GgufFile& file);

/// What the metadata says, as the model's config.json. Scaling of the rotary embedding that
/// "rope_freqs.weight" holds is that of Llama 3 where it is one, and else "longrope" with its
/// divisors. Throws Error(kInputMalformed), naming the key, for what is missing or not read.
std::string gguf_config_json(const GgufFile& file, const GgufArchitecture& architecture);

}  // namespace pare
