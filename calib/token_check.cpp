#include "calib/token_check.h"

#include "pare/error.h"

namespace pare {

void check_token_ids(std::span<const int32_t> ids, int64_t vocab_size, const std::string& text,
                     const std::string& model) {
  for (const int32_t id : ids) {
    if (id >= 0 && id < vocab_size) continue;
    throw Error(ErrorCode::kInputMalformed, text + ": token id " + std::to_string(id) +
                                                " is outside the vocabulary of " +
                                                std::to_string(vocab_size) + " of " + model);
  }
}

}  // namespace pare
