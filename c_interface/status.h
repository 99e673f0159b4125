// The edge between C++ and C: exceptions become statuses, messages stay with the thread.
//
//   extern "C" pare_status pare_job_run(pare_job* job) {
//     return pare::guarded([&] { pare::require(job, "job")... });
//   }
#pragma once

#include <exception>
#include <new>
#include <string>

#include "pare/error.h"
#include "pare/pare.h"

namespace pare {

/// Keeps `message` for pare_last_error(); returns `status`.
pare_status keep_error(pare_status status, const char* message) noexcept;

/// `pointer`, which must not be null. Throws Error(kUsage) naming the argument.
template <typename Pointer>
Pointer* require(Pointer* pointer, const char* argument) {
  if (pointer == nullptr) {
    throw Error(ErrorCode::kUsage, std::string(argument) + " is NULL");
  }
  return pointer;
}

/// Runs `work`; what it throws goes no further.
template <typename Work>
pare_status guarded(Work work) noexcept {
  try {
    work();
    return PARE_OK;
  } catch (const Error& error) {
    return keep_error(static_cast<pare_status>(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    return keep_error(PARE_LIMIT_EXCEEDED, "out of memory");
  } catch (const std::exception& error) {
    return keep_error(PARE_INTERNAL, error.what());
  } catch (...) {
    return keep_error(PARE_INTERNAL, "unknown exception");
  }
}

}  // namespace pare
