#include "pare/error.h"

namespace pare {

Error::~Error() = default;

const char* error_code_name(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kInternal:
      return "internal";
    case ErrorCode::kUsage:
      return "usage";
    case ErrorCode::kInputMissing:
      return "input_missing";
    case ErrorCode::kInputMalformed:
      return "input_malformed";
    case ErrorCode::kWriteFailed:
      return "write_failed";
    case ErrorCode::kLimitExceeded:
      return "limit_exceeded";
    case ErrorCode::kNonFinite:
      return "non_finite";
    case ErrorCode::kGateFailed:
      return "gate_failed";
    case ErrorCode::kInterrupted:
      return "interrupted";
  }
  return "internal";
}

}  // namespace pare
