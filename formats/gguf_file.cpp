#include "formats/gguf_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "pare/error.h"

namespace pare {
namespace {

constexpr std::string_view kSignature = "GGUF";
constexpr size_t kMostDimensions = 4;
constexpr size_t kLongestKey = 65535;
constexpr size_t kLongestName = 1024;  // longer than any engine takes, short enough for messages
constexpr uint64_t kLargestDimension = uint64_t{1} << 40;

// Numbers of value types.
enum class ValueType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64,
};
constexpr uint32_t kValueTypes = 13;

std::string shown(std::string_view text) {
  std::string result = "\"";
  for (const char c : text.substr(0, 80)) {
    const auto byte = static_cast<uint8_t>(c);
    result += byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  return result + (text.size() > 80 ? "…\"" : "\"");
}

}  // namespace

bool has_gguf_signature(std::span<const std::byte> bytes) noexcept {
  return bytes.size() >= kSignature.size() &&
         std::memcmp(bytes.data(), kSignature.data(), kSignature.size()) == 0;
}

namespace {

// Takes values off the front of a file.
class Reader {
 public:
  Reader(const GgufFile& file, std::span<const std::byte> bytes) : file_(file), bytes_(bytes) {}

  size_t position() const { return position_; }
  size_t left() const { return bytes_.size() - position_; }

  template <typename Number>
  Number number(const std::string& what) {
    need(sizeof(Number), what);
    Number value{};
    std::memcpy(&value, bytes_.data() + position_, sizeof(Number));
    position_ += sizeof(Number);
    return value;
  }

  std::string text(const std::string& what, uint64_t longest) {
    const auto size = number<uint64_t>(what);
    if (size > longest) {
      file_.fail(what + " has " + std::to_string(size) + " bytes, expected at most " +
                 std::to_string(longest));
    }
    need(size, what);
    std::string result(reinterpret_cast<const char*>(bytes_.data() + position_),
                       static_cast<size_t>(size));
    position_ += static_cast<size_t>(size);
    return result;
  }

  GgufValue value(const std::string& what) {
    const auto type = type_of(what);
    if (type == ValueType::kArray) return array(what);
    switch (type) {
      case ValueType::kF32:
        return static_cast<double>(number<float>(what));
      case ValueType::kF64:
        return number<double>(what);
      case ValueType::kBool:
        return boolean(what);
      case ValueType::kString:
        return text(what, left());
      case ValueType::kU64:
        return number<uint64_t>(what);
      default:
        return integer(type, what);
    }
  }

 private:
  void need(uint64_t size, const std::string& what) const {
    if (size > left()) {
      file_.fail("ends inside " + what + ": " + std::to_string(size) + " bytes are needed, " +
                 std::to_string(left()) + " are left (file truncated?)");
    }
  }

  ValueType type_of(const std::string& what) {
    const auto type = number<uint32_t>(what);
    if (type >= kValueTypes) {
      file_.fail(what + " has value type " + std::to_string(type) + ", which is not known");
    }
    return static_cast<ValueType>(type);
  }

  bool boolean(const std::string& what) {
    const auto byte = number<uint8_t>(what);
    if (byte > 1) file_.fail(what + " is a truth value of " + std::to_string(byte));
    return byte == 1;
  }

  int64_t integer(ValueType type, const std::string& what) {
    switch (type) {
      case ValueType::kU8:
        return number<uint8_t>(what);
      case ValueType::kI8:
        return number<int8_t>(what);
      case ValueType::kU16:
        return number<uint16_t>(what);
      case ValueType::kI16:
        return number<int16_t>(what);
      case ValueType::kU32:
        return number<uint32_t>(what);
      case ValueType::kI32:
        return number<int32_t>(what);
      case ValueType::kU64: {
        const auto value = number<uint64_t>(what);
        if (value > static_cast<uint64_t>(INT64_MAX)) file_.fail(what + " is out of range");
        return static_cast<int64_t>(value);
      }
      default:
        return number<int64_t>(what);
    }
  }

  // Before anything is allocated: each element takes at least `size` bytes of the file.
  size_t count_of(size_t size, const std::string& what) {
    const auto count = number<uint64_t>(what);
    if (count > left() / size) {
      file_.fail(what + " is an array of " + std::to_string(count) + " elements, " +
                 std::to_string(left()) + " bytes are left (file truncated?)");
    }
    return static_cast<size_t>(count);
  }

  static size_t size_of(ValueType type) {
    switch (type) {
      case ValueType::kU8:
      case ValueType::kI8:
      case ValueType::kBool:
        return 1;
      case ValueType::kU16:
      case ValueType::kI16:
        return 2;
      case ValueType::kU32:
      case ValueType::kI32:
      case ValueType::kF32:
        return 4;
      default:
        return 8;  // A string has at least its length.
    }
  }

  GgufValue array(const std::string& what) {
    const ValueType type = type_of(what);
    if (type == ValueType::kArray) file_.fail(what + " is an array of arrays, which is not read");
    const size_t count = count_of(size_of(type), what);
    const auto fill = [&](auto values, auto next) -> GgufValue {
      values.reserve(count);
      for (size_t i = 0; i < count; ++i) values.push_back(next());
      return values;
    };
    switch (type) {
      case ValueType::kString:
        return fill(std::vector<std::string>(), [&] { return text(what, left()); });
      case ValueType::kBool:
        return fill(std::vector<bool>(), [&] { return boolean(what); });
      case ValueType::kF32:
        return fill(std::vector<double>(),
                    [&] { return static_cast<double>(number<float>(what)); });
      case ValueType::kF64:
        return fill(std::vector<double>(), [&] { return number<double>(what); });
      default:
        return fill(std::vector<int64_t>(), [&] { return integer(type, what); });
    }
  }

  const GgufFile& file_;
  std::span<const std::byte> bytes_;
  size_t position_ = 0;
};

// A tensor whose bytes are known when all headers have been read.
struct Placed {
  GgufTensor tensor;
  uint64_t offset = 0;
  uint64_t size = 0;
};

Placed read_tensor(const GgufFile& file, Reader& reader, uint64_t number) {
  Placed placed;
  GgufTensor& tensor = placed.tensor;
  tensor.name = reader.text("the name of tensor " + std::to_string(number), kLongestName);
  const std::string what = "tensor " + shown(tensor.name);
  if (tensor.name.empty()) file.fail("tensor " + std::to_string(number) + " has no name");
  const auto dimensions = reader.number<uint32_t>(what);
  if (dimensions == 0 || dimensions > kMostDimensions) {
    file.fail(what + " has " + std::to_string(dimensions) + " dimensions, expected 1 to 4");
  }
  uint64_t elements = 1;
  for (uint32_t i = 0; i < dimensions; ++i) {
    const auto size = reader.number<uint64_t>(what);
    if (size == 0 || size > kLargestDimension || elements > kLargestDimension / size) {
      file.fail(what + ": dimension " + std::to_string(i) + " is " + std::to_string(size) +
                ", which makes an impossible size");
    }
    elements *= size;
    tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(size));
  }
  const auto type = reader.number<uint32_t>(what);
  tensor.type = find_ggml_type(type);
  if (tensor.type == nullptr) {
    file.fail(what + " has type " + std::to_string(type) + ", which is not known");
  }
  if (tensor.row_elements() % tensor.type->block != 0) {
    file.fail(what + " of type " + tensor.type->name + " has rows of " +
              std::to_string(tensor.row_elements()) + " elements, expected a multiple of " +
              std::to_string(tensor.type->block));
  }
  placed.offset = reader.number<uint64_t>(what);
  placed.size = elements / static_cast<uint64_t>(tensor.type->block) *
                static_cast<uint64_t>(tensor.type->bytes);
  return placed;
}

void check_overlaps(const GgufFile& file, const std::vector<Placed>& placed) {
  std::vector<const Placed*> order;
  for (const Placed& one : placed) order.push_back(&one);
  std::sort(order.begin(), order.end(),
            [](const Placed* a, const Placed* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < order.size(); ++i) {
    if (order[i]->offset - order[i - 1]->offset < order[i - 1]->size) {
      file.fail("tensors " + shown(order[i - 1]->tensor.name) + " and " +
                shown(order[i]->tensor.name) + " overlap");
    }
  }
}

}  // namespace

GgufFile::GgufFile(const std::string& path) : file_(path) {
  const std::span<const std::byte> bytes = file_.bytes();
  if (!has_gguf_signature(bytes)) fail("is no GGUF file");
  Reader reader(*this, bytes);
  reader.number<uint32_t>("the signature");
  const auto version = reader.number<uint32_t>("the version");
  if (version != 2 && version != 3) {
    const bool turned = version == 0x02000000U || version == 0x03000000U;
    fail("has version " + std::to_string(version) + ", expected 2 or 3" +
         (turned ? " (a big-endian file)" : ""));
  }
  const auto tensors = reader.number<uint64_t>("the number of tensors");
  const auto keys = reader.number<uint64_t>("the number of keys");
  for (uint64_t i = 0; i < keys; ++i) {
    std::string key = reader.text("key " + std::to_string(i), kLongestKey);
    const std::string what = "key " + shown(key);
    GgufValue value = reader.value(what);
    if (!values_.emplace(std::move(key), std::move(value)).second) fail(what + " is there twice");
  }
  if (find_integer("split.count").value_or(1) > 1) {
    fail("is one of " + std::to_string(*find_integer("split.count")) +
         " files of a split model; join them first (llama-gguf-split --merge)");
  }
  alignment_ = find_integer("general.alignment").value_or(alignment_);
  if (alignment_ < 1 || alignment_ > (1 << 20) ||
      !std::has_single_bit(static_cast<uint64_t>(alignment_))) {
    fail("general.alignment is " + std::to_string(alignment_) + ", expected a power of two");
  }
  std::vector<Placed> placed;
  for (uint64_t i = 0; i < tensors; ++i) placed.push_back(read_tensor(*this, reader, i));
  const auto alignment = static_cast<uint64_t>(alignment_);
  const uint64_t begin = (reader.position() + alignment - 1) / alignment * alignment;
  data_begin_ = static_cast<int64_t>(begin);
  const uint64_t room = begin > bytes.size() ? 0 : bytes.size() - begin;
  for (Placed& one : placed) {
    const std::string what = "tensor " + shown(one.tensor.name);
    if (one.offset % alignment != 0) {
      fail(what + " begins at " + std::to_string(one.offset) + ", expected a multiple of " +
           std::to_string(alignment_));
    }
    if (one.offset > room || one.size > room - one.offset) {
      fail(what + ": bytes from " + std::to_string(one.offset) + ", " + std::to_string(one.size) +
           " of them, are not among the " + std::to_string(room) +
           " that the file has (file truncated?)");
    }
    one.tensor.bytes =
        bytes.subspan(static_cast<size_t>(begin + one.offset), static_cast<size_t>(one.size));
  }
  check_overlaps(*this, placed);
  for (Placed& one : placed) {
    if (!index_.emplace(one.tensor.name, tensors_.size()).second) {
      fail("tensor " + shown(one.tensor.name) + " is there twice");
    }
    tensors_.push_back(std::move(one.tensor));
  }
}

void GgufFile::fail(const std::string& what) const {
  throw Error(ErrorCode::kInputMalformed, path() + ": " + what);
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

template <typename Kind>
const Kind* GgufFile::find_value(const std::string& key, const char* kind) const {
  const auto found = values_.find(key);
  if (found == values_.end()) return nullptr;
  const auto* value = std::get_if<Kind>(&found->second);
  if (value == nullptr) fail("key \"" + key + "\" is no " + kind);
  return value;
}

const std::string& GgufFile::text(const std::string& key) const {
  const std::string* value = find_text(key);
  if (value == nullptr) fail("key \"" + key + "\" is missing");
  return *value;
}

std::optional<int64_t> GgufFile::find_integer(const std::string& key) const {
  const auto found = values_.find(key);
  if (found == values_.end()) return std::nullopt;
  if (const auto* large = std::get_if<uint64_t>(&found->second)) {
    if (*large > static_cast<uint64_t>(INT64_MAX)) fail("key \"" + key + "\" is out of range");
    return static_cast<int64_t>(*large);
  }
  return *find_value<int64_t>(key, "integer");
}

std::optional<double> GgufFile::find_number(const std::string& key) const {
  const auto found = values_.find(key);
  if (found == values_.end()) return std::nullopt;
  if (!std::holds_alternative<double>(found->second)) {
    return static_cast<double>(*find_integer(key));
  }
  const double value = std::get<double>(found->second);
  if (!std::isfinite(value)) fail("key \"" + key + "\" is no finite number");
  return value;
}

std::optional<bool> GgufFile::find_boolean(const std::string& key) const {
  const auto* value = find_value<bool>(key, "truth value");
  return value == nullptr ? std::nullopt : std::optional(*value);
}

const std::string* GgufFile::find_text(const std::string& key) const {
  return find_value<std::string>(key, "text");
}
const std::vector<std::string>* GgufFile::find_texts(const std::string& key) const {
  return find_value<std::vector<std::string>>(key, "list of texts");
}
const std::vector<int64_t>* GgufFile::find_integers(const std::string& key) const {
  return find_value<std::vector<int64_t>>(key, "list of integers");
}
const std::vector<double>* GgufFile::find_numbers(const std::string& key) const {
  return find_value<std::vector<double>>(key, "list of numbers");
}

}  // namespace pare
