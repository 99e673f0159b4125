#include "formats/hdf5_types.h"

#include <string_view>

namespace pare {
namespace {

constexpr size_t kMaxNameBytes = 512;

}  // namespace

size_t stored_type_size(StoredType type) noexcept {
  switch (type) {
    case StoredType::kU8:
    case StoredType::kI8:
      return 1;
    case StoredType::kU16:
    case StoredType::kI16:
    case StoredType::kF16:
      return 2;
    case StoredType::kI32:
    case StoredType::kF32:
      return 4;
    default:
      return 8;
  }
}

const char* stored_type_name(StoredType type) noexcept {
  switch (type) {
    case StoredType::kU8:
      return "uint8";
    case StoredType::kI8:
      return "int8";
    case StoredType::kU16:
      return "uint16";
    case StoredType::kI16:
      return "int16";
    case StoredType::kI32:
      return "int32";
    case StoredType::kI64:
      return "int64";
    case StoredType::kF16:
      return "float16";
    case StoredType::kF32:
      return "float32";
    case StoredType::kF64:
      return "float64";
  }
  return "unknown";
}

bool is_utf8(std::string_view text) noexcept {
  size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<uint8_t>(text[i]);
    const size_t length = lead < 0x80   ? 1
                          : lead < 0xc2 ? 0
                          : lead < 0xe0 ? 2
                          : lead < 0xf0 ? 3
                          : lead < 0xf5 ? 4
                                        : 0;
    if (length == 0 || i + length > text.size()) return false;
    for (size_t k = 1; k < length; ++k) {
      const auto byte = static_cast<uint8_t>(text[i + k]);
      uint8_t low = 0x80;
      uint8_t high = 0xbf;
      if (k == 1) {
        if (lead == 0xe0) low = 0xa0;
        if (lead == 0xed) high = 0x9f;
        if (lead == 0xf0) low = 0x90;
        if (lead == 0xf4) high = 0x8f;
      }
      if (byte < low || byte > high) return false;
    }
    i += length;
  }
  return true;
}

bool is_valid_dataset_name(const std::string& name) noexcept {
  return !name.empty() && name.size() <= kMaxNameBytes && name != "." &&
         name.find("..") == std::string::npos &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string::npos && is_utf8(name);
}

}  // namespace pare
