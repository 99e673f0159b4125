// The one exception type of the library.
//
// Every failure that a caller can meet is a pare::Error: a code, which the command-line programs
// use as their exit status, and a message that names the file or tensor, what was expected, what
// was found and what to do. Errors are values: copyable, safe to pass between threads.
//
//   try {
//     pare::Checkpoint checkpoint("llama-int4.h5");
//   } catch (const pare::Error& error) {
//     if (error.code() == pare::ErrorCode::kInputMissing) std::puts(error.what());
//   }
#pragma once

#include <stdexcept>
#include <string>

#include "pare/export.h"

namespace pare {

/// Why an operation failed. The numbers are the exit statuses of the programs and never change.
enum class ErrorCode : int {
  kInternal = 1,        ///< A bug in pare.
  kUsage = 2,           ///< Options that are unknown or contradict each other.
  kInputMissing = 3,    ///< A file or folder that does not exist or cannot be read.
  kInputMalformed = 4,  ///< A file that is damaged, or of a kind that is not supported.
  kWriteFailed = 5,     ///< Output could not be written: disk full, no permission, exists already.
  kLimitExceeded = 6,   ///< Out of memory, or more than --max-memory allows.
  kNonFinite = 7,       ///< NaN or infinity in weights or activations.
  kGateFailed = 8,      ///< The result is complete, but worse than the caller allowed.
  kInterrupted = 130,   ///< Cancelled through the callback.
};

class PARE_EXPORT Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ~Error() override;

  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

/// The word for a code in JSON error objects, for example "input_missing".
PARE_EXPORT const char* error_code_name(ErrorCode code) noexcept;

}  // namespace pare
