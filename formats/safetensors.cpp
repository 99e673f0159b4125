#include "formats/safetensors.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "formats/json_check.h"
#include "pare/error.h"

namespace pare {
namespace {

using Json = nlohmann::json;

constexpr size_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // The limit of the reference implementation.

constexpr std::array<std::pair<std::string_view, DType>, 12> kDTypes{{{"BF16", DType::kBf16},
                                                                      {"F16", DType::kF16},
                                                                      {"F32", DType::kF32},
                                                                      {"F64", DType::kF64},
                                                                      {"I64", DType::kI64},
                                                                      {"I32", DType::kI32},
                                                                      {"I16", DType::kI16},
                                                                      {"I8", DType::kI8},
                                                                      {"U8", DType::kU8},
                                                                      {"BOOL", DType::kBool},
                                                                      {"F8_E4M3", DType::kF8E4m3},
                                                                      {"F8_E5M2", DType::kF8E5m2}}};

/// Parses one file's header; the members are what its messages need.
class HeaderParser {
 public:
  HeaderParser(const std::string& path, std::span<const std::byte> bytes)
      : path_(path), bytes_(bytes) {}

  void parse(std::map<std::string, TensorView>& tensors,
             std::map<std::string, std::string>& metadata) {
    const std::string_view text = header_text();
    check_json(text, path_ + ": header");
    const Json header = Json::parse(text);
    for (const auto& [name, value] : header.items()) {
      if (name == "__metadata__") {
        parse_metadata(value, metadata);
      } else {
        tensors.emplace(name, parse_tensor(name, value));
      }
    }
    check_coverage(tensors);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kInputMalformed, path_ + ": " + what);
  }
  [[noreturn]] void fail(const std::string& name, const std::string& what) const {
    fail("tensor \"" + name + "\": " + what);
  }

  std::string_view header_text() {
    if (bytes_.size() < kLengthBytes) {
      fail(std::to_string(bytes_.size()) +
           " bytes, too short for a safetensors file (file truncated?)");
    }
    uint64_t length = 0;
    for (size_t i = 0; i < kLengthBytes; ++i) {
      length |= static_cast<uint64_t>(bytes_[i]) << (8 * i);
    }
    if (length > kMaxHeaderBytes) {
      fail("header of " + std::to_string(length) + " bytes, expected at most " +
           std::to_string(kMaxHeaderBytes) + " (not a safetensors file?)");
    }
    if (length > bytes_.size() - kLengthBytes) {
      fail("header of " + std::to_string(length) + " bytes > the " +
           std::to_string(bytes_.size() - kLengthBytes) +
           " bytes that follow (file truncated? compare with the source's size)");
    }
    data_ = bytes_.subspan(kLengthBytes + length);
    const auto* begin = reinterpret_cast<const char*>(bytes_.data() + kLengthBytes);
    if (length == 0 || *begin != '{') fail("header does not begin with '{'");
    return {begin, length};
  }

  void parse_metadata(const Json& value, std::map<std::string, std::string>& metadata) const {
    if (!value.is_object()) fail("__metadata__ is not an object");
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) fail("__metadata__ \"" + key + "\" is not a string");
      metadata.emplace(key, text.get<std::string>());
    }
  }

  const Json& member(const std::string& name, const Json& value, const char* key) const {
    const auto found = value.find(key);
    if (found == value.end()) fail(name, std::string("\"") + key + "\" is missing");
    return *found;
  }

  DType parse_dtype(const std::string& name, const Json& value) const {
    if (!value.is_string()) fail(name, "dtype is not a string");
    const auto& text = value.get_ref<const std::string&>();
    for (const auto& [spelling, dtype] : kDTypes) {
      if (spelling == text) return dtype;
    }
    fail(name, "element type \"" + text +
                   "\" is not supported (BF16, F16, F32, F64, I64, I32, I16, I8, U8, BOOL, "
                   "F8_E4M3, F8_E5M2 are)");
  }

  uint64_t parse_number(const std::string& name, const Json& value, const char* what) const {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > INT64_MAX) {
      fail(name, std::string(what) + " holds " + value.dump() +
                     ", expected an integer from 0 to 2^63 - 1");
    }
    return value.get<uint64_t>();
  }

  TensorView parse_tensor(const std::string& name, const Json& value) const {
    if (!value.is_object()) fail(name, "its entry is not an object");
    TensorView view;
    view.dtype = parse_dtype(name, member(name, value, "dtype"));
    const Json& shape = member(name, value, "shape");
    if (!shape.is_array()) fail(name, "shape is not an array");
    uint64_t size = dtype_size(view.dtype);
    for (const Json& entry : shape) {
      const uint64_t dimension = parse_number(name, entry, "shape");
      view.shape.push_back(static_cast<int64_t>(dimension));
      if (__builtin_mul_overflow(size, dimension, &size) || size > INT64_MAX) {
        fail(name, "shape " + shape_text(view.shape) + " is larger than any file");
      }
    }
    const Json& offsets = member(name, value, "data_offsets");
    if (!offsets.is_array() || offsets.size() != 2) {
      fail(name, "data_offsets is not an array of two numbers");
    }
    const uint64_t begin = parse_number(name, offsets[0], "data_offsets");
    const uint64_t end = parse_number(name, offsets[1], "data_offsets");
    if (end > data_.size()) {
      fail(name, "end offset " + std::to_string(end) + " > data of " +
                     std::to_string(data_.size()) +
                     " bytes (file truncated? compare with the source's size)");
    }
    if (begin > end) {
      fail(name, "data_offsets [" + std::to_string(begin) + ", " + std::to_string(end) +
                     "] end before they begin");
    }
    if (end - begin != size) {
      fail(name, "data_offsets hold " + std::to_string(end - begin) + " bytes, shape " +
                     shape_text(view.shape) + " of " + std::string(dtype_name(view.dtype)) +
                     " needs " + std::to_string(size));
    }
    view.bytes = data_.subspan(begin, size);
    return view;
  }

  /// The format forbids holes and overlaps: two readers must not see different content.
  void check_coverage(const std::map<std::string, TensorView>& tensors) const {
    std::vector<std::pair<std::pair<size_t, size_t>, const std::string*>> parts;
    parts.reserve(tensors.size());
    for (const auto& [name, view] : tensors) {
      const auto begin = static_cast<size_t>(view.bytes.data() - data_.data());
      parts.push_back({{begin, begin + view.bytes.size()}, &name});
    }
    std::sort(parts.begin(), parts.end());
    size_t covered = 0;
    for (const auto& [range, name] : parts) {
      if (range.first != covered) {
        fail(*name, "begins at " + std::to_string(range.first) + " where " +
                        std::to_string(covered) + " was expected: " +
                        (range.first < covered ? "it overlaps the tensor before"
                                               : "the format allows no holes"));
      }
      covered = range.second;
    }
    if (covered != data_.size()) {
      fail(std::to_string(data_.size() - covered) +
           " bytes after the last tensor: the format allows no holes");
    }
  }

  const std::string& path_;
  std::span<const std::byte> bytes_;
  std::span<const std::byte> data_;
};

}  // namespace

SafetensorsFile SafetensorsFile::open(const std::string& path) {
  SafetensorsFile result(path);
  HeaderParser(path, result.file_.bytes()).parse(result.tensors_, result.metadata_);
  for (const auto& [name, view] : result.tensors_) result.names_.push_back(name);
  return result;
}

const TensorView& SafetensorsFile::get(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    throw Error(ErrorCode::kInputMalformed, path() + ": there is no tensor \"" + name + "\"");
  }
  return found->second;
}

std::string_view safetensors_dtype_name(DType dtype) noexcept {
  for (const auto& [spelling, value] : kDTypes) {
    if (value == dtype) return spelling;
  }
  return "unknown";
}

}  // namespace pare
