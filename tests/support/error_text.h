// What a call fails with, as text.
#pragma once

#include <string>

#include "pare/error.h"

namespace pare::testing {

/// The message of the Error that `work` throws; "" when it does not.
template <typename Work>
std::string error_text(Work work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace pare::testing
