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

}  // namespace

Hdf5Session::Hdf5Session() : lock_(library_mutex()) {
  H5Eget_auto2(H5E_DEFAULT, &printer_, &printer_data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Hdf5Session::~Hdf5Session() { H5Eset_auto2(H5E_DEFAULT, printer_, printer_data_); }

std::string hdf5_error_text() {
  std::string text;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, &text);
  return text.empty() ? "the HDF5 library gives no reason" : text;
}

}  // namespace pare
