// Whether token ids fit a model.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace pare {

/// Throws Error(kInputMalformed) naming `text`, `model` and the first id outside the vocabulary.
void check_token_ids(std::span<const int32_t> ids, int64_t vocab_size, const std::string& text,
                     const std::string& model);

}  // namespace pare
