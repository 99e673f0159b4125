#include "formats/hdf5_types.h"

#include <string_view>

#include "core/text.h"

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

bool is_valid_dataset_name(const std::string& name) noexcept {
  return !name.empty() && name.size() <= kMaxNameBytes && name != "." &&
         name.find("..") == std::string::npos &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string::npos && is_utf8(name);
}

}  // namespace pare
