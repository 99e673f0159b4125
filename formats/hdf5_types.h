// The small part of HDF5 that a checkpoint uses, in our own words: integer and IEEE element types,
// attributes that are texts or integers, contiguous datasets.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/tensor_view.h"

namespace pare {

/// Element type of a dataset, always little-endian.
enum class StoredType : uint8_t { kU8, kI8, kU16, kI16, kI32, kI64, kF16, kF32, kF64 };

/// Bytes of one element.
size_t stored_type_size(StoredType type) noexcept;

/// "uint16", "float32" …
const char* stored_type_name(StoredType type) noexcept;

using AttributeValue = std::variant<std::string, int64_t, std::vector<int64_t>>;

/// In the order in which they are written.
using AttributeList = std::vector<std::pair<std::string, AttributeValue>>;

/// As read back.
using AttributeMap = std::map<std::string, AttributeValue>;

/// Whether `name` may name a dataset: 1 to 512 bytes of UTF-8 without '/', NUL and "..", not ".".
/// Everything else could mean a path to the HDF5 library or to a program that exports tensors.
bool is_valid_dataset_name(const std::string& name) noexcept;

}  // namespace pare
