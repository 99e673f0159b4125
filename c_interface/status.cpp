#include "c_interface/status.h"

#include "pare/version.h"

namespace pare {
namespace {

/// In a function, so that a thread that never fails never makes one.
std::string& message_of_this_thread() noexcept {
  thread_local std::string message;
  return message;
}

static_assert(static_cast<int>(ErrorCode::kInternal) == PARE_INTERNAL &&
              static_cast<int>(ErrorCode::kUsage) == PARE_USAGE &&
              static_cast<int>(ErrorCode::kInputMissing) == PARE_INPUT_MISSING &&
              static_cast<int>(ErrorCode::kInputMalformed) == PARE_INPUT_MALFORMED &&
              static_cast<int>(ErrorCode::kWriteFailed) == PARE_WRITE_FAILED &&
              static_cast<int>(ErrorCode::kLimitExceeded) == PARE_LIMIT_EXCEEDED &&
              static_cast<int>(ErrorCode::kNonFinite) == PARE_NON_FINITE &&
              static_cast<int>(ErrorCode::kGateFailed) == PARE_GATE_FAILED &&
              static_cast<int>(ErrorCode::kInterrupted) == PARE_INTERRUPTED);

}  // namespace

pare_status keep_error(pare_status status, const char* message) noexcept {
  std::string& kept = message_of_this_thread();
  try {
    kept = message;
  } catch (const std::bad_alloc&) {
    kept.clear();  // The status is all that there is room for.
  }
  return status;
}

}  // namespace pare

extern "C" {

const char* pare_last_error(void) { return pare::message_of_this_thread().c_str(); }

const char* pare_status_name(pare_status status) {
  if (status == PARE_OK) return "ok";
  return pare::error_code_name(static_cast<pare::ErrorCode>(status));
}

const char* pare_version(void) { return PARE_VERSION_STRING; }

}  // extern "C"
