#include "formats/hdf5_library.h"

#include <hdf5.h>

#include <type_traits>

namespace pare {
namespace {

static_assert(std::is_same_v<hid_t, int64_t> && std::is_same_v<herr_t, int>);

std::mutex& library_mutex() {
  static std::mutex mutex;
  return mutex;
}

herr_t keep_innermost(unsigned /*position*/, const H5E_error2_t* error, void* text) noexcept {
  // Walking upward, the first entry is where it happened.
  auto* result = static_cast<std::string*>(text);
  if (error->desc != nullptr && result->empty()) *result = error->desc;
  return 0;
}

// The printer of a new error stack; the library does not export it.
H5E_auto2_t default_printer() {
  H5E_auto2_t printer = nullptr;
  const hid_t stack = H5Ecreate_stack();
  H5Eget_auto2(stack, &printer, nullptr);
  H5Eclose_stack(stack);
  return printer;
}

}  // namespace

Hdf5Session::Hdf5Session() : lock_(library_mutex()) {
  H5Eget_auto2(H5E_DEFAULT, &printer_, &printer_data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Hdf5Session::~Hdf5Session() {
  // Opening a damaged file can lose identifiers inside the library (seen in 1.10.8), about which it
  // complains on stderr when the process ends, unless its printing is off by then. A printer that
  // the application has set itself is restored all the same.
  const bool failed = std::uncaught_exceptions() > exceptions_;
  if (!failed || printer_ != default_printer()) H5Eset_auto2(H5E_DEFAULT, printer_, printer_data_);
}

std::string hdf5_error_text() {
  std::string text;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, &text);
  return text.empty() ? "the HDF5 library gives no reason" : text;
}

}  // namespace pare
