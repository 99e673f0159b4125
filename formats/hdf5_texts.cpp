#include "formats/hdf5_texts.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>
#include <vector>

#include "pare/error.h"

namespace pare {
namespace {

constexpr size_t kMaxChunks = 256;
constexpr uint8_t kAttributeMessage = 0x0c;
constexpr uint8_t kAttributeInfoMessage = 0x15;
constexpr uint8_t kContinuationMessage = 0x10;
constexpr uint8_t kSharedMessageFlag = 0x02;
constexpr uint8_t kVlenClass = 9;
constexpr uint8_t kVlenText = 1;  // Of a variable-length type: 0 is a sequence.

/// Reads little-endian numbers from a range, never beyond its end.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& shown)
      : bytes_(bytes), shown_(shown) {}

  size_t left() const noexcept { return bytes_.size(); }

  std::span<const std::byte> take(uint64_t count) {
    if (count > bytes_.size()) fail("a structure reaches beyond its end");
    const auto result = bytes_.first(count);
    bytes_ = bytes_.subspan(count);
    return result;
  }
  template <typename Number>
  Number number() {
    Number value = 0;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  void expect(std::string_view signature) {
    if (std::memcmp(take(signature.size()).data(), signature.data(), signature.size()) != 0) {
      fail("\"" + std::string(signature) + "\" is not where it is expected");
    }
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kInputMalformed,
                shown_ + ": its attributes cannot be read: " + what + " (damaged file?)");
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& shown_;
};

Cursor cursor_at(std::span<const std::byte> file, uint64_t address, const std::string& shown) {
  Cursor cursor(file, shown);
  cursor.take(address);
  return cursor;
}

/// Collects the texts of one object.
class ObjectTexts {
 public:
  ObjectTexts(std::span<const std::byte> file, VlenTextReader& heap, const std::string& shown)
      : file_(file), heap_(heap), shown_(shown) {}

  std::map<std::string, std::string> read(uint64_t header) {
    Cursor cursor = cursor_at(file_, header, shown_);
    cursor.expect("OHDR");
    if (cursor.number<uint8_t>() != 2) cursor.fail("object header version is not 2");
    const auto flags = cursor.number<uint8_t>();
    if ((flags & 0x20U) != 0) cursor.take(16);  // Times.
    if ((flags & 0x10U) != 0) cursor.take(4);   // Limits of attribute storage.
    has_order_ = (flags & 0x04U) != 0;
    const uint64_t size = (flags & 3U) == 0   ? cursor.number<uint8_t>()
                          : (flags & 3U) == 1 ? cursor.number<uint16_t>()
                          : (flags & 3U) == 2 ? cursor.number<uint32_t>()
                                              : cursor.number<uint64_t>();
    read_messages(Cursor(cursor.take(size), shown_));
    // Chunks may name further chunks while this runs; a circle ends at the limit.
    for (size_t i = 0; i < chunks_.size(); ++i) {
      if (i >= kMaxChunks) cursor.fail("its header has too many chunks");
      Cursor chunk(cursor_at(file_, chunks_[i].first, shown_).take(chunks_[i].second), shown_);
      chunk.expect("OCHK");
      if (chunk.left() < 4) chunk.fail("a chunk is too short");
      read_messages(Cursor(chunk.take(chunk.left() - 4), shown_));  // Less the checksum.
    }
    return std::move(texts_);
  }

 private:
  void read_messages(Cursor chunk) {
    const size_t prefix = has_order_ ? 6 : 4;
    while (chunk.left() >= prefix) {  // Less is a gap.
      const auto type = chunk.number<uint8_t>();
      const auto size = chunk.number<uint16_t>();
      const auto flags = chunk.number<uint8_t>();
      if (has_order_) chunk.number<uint16_t>();
      Cursor message(chunk.take(size), shown_);
      if (type == kContinuationMessage) {
        const auto offset = message.number<uint64_t>();
        chunks_.emplace_back(offset, message.number<uint64_t>());
      } else if (type == kAttributeMessage) {
        if ((flags & kSharedMessageFlag) != 0) message.fail("they are shared between objects");
        read_attribute(message);
      } else if (type == kAttributeInfoMessage) {
        check_not_dense(message);
      }
    }
  }

  /// Attributes may live in a heap of their own instead of the header; a checkpoint's do not.
  static void check_not_dense(Cursor message) {
    message.number<uint8_t>();
    const auto flags = message.number<uint8_t>();
    if ((flags & 1U) != 0) message.number<uint16_t>();
    if (message.number<uint64_t>() != UINT64_MAX) message.fail("they are in dense storage");
  }

  void read_attribute(Cursor message) {
    if (message.number<uint8_t>() != 3) message.fail("attribute version is not 3");
    if (message.number<uint8_t>() != 0) message.fail("an attribute's type or shape is shared");
    const auto name_size = message.number<uint16_t>();
    const auto type_size = message.number<uint16_t>();
    const auto space_size = message.number<uint16_t>();
    message.number<uint8_t>();  // Character set.
    const std::span<const std::byte> name_bytes = message.take(name_size);
    const std::span<const std::byte> type = message.take(type_size);
    const std::span<const std::byte> space = message.take(space_size);
    if (type.size() < 2 || (static_cast<uint8_t>(type[0]) & 15U) != kVlenClass ||
        (static_cast<uint8_t>(type[1]) & 15U) != kVlenText) {
      return;
    }
    const auto* name = reinterpret_cast<const char*>(name_bytes.data());
    // Version and rank; a single value has rank 0.
    if (space.size() < 2 || space[1] != std::byte{0}) message.fail("a list of texts");
    const auto length = message.number<uint32_t>();
    const auto collection = message.number<uint64_t>();
    const auto index = message.number<uint32_t>();
    if (length > kMaxTextBytes) message.fail("a text is too long");
    heap_.count(length, shown_);
    std::string& text = texts_[std::string(name, strnlen(name, name_size))];
    if (length == 0) return;
    Cursor object(heap_.heap_object(collection, index, shown_), shown_);
    const auto bytes = object.take(length);
    text.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  std::span<const std::byte> file_;
  VlenTextReader& heap_;
  const std::string& shown_;
  bool has_order_ = false;
  std::vector<std::pair<uint64_t, uint64_t>> chunks_;
  std::map<std::string, std::string> texts_;
};

}  // namespace

std::map<std::string, std::string> VlenTextReader::read(uint64_t header, const std::string& shown) {
  return ObjectTexts(file_, *this, shown).read(header);
}

void VlenTextReader::count(size_t bytes, const std::string& shown) {
  if (bytes > kMaxFileTextBytes - total_) {
    throw Error(ErrorCode::kInputMalformed,
                shown + ": with it the texts of all attributes of the file are longer than " +
                    std::to_string(kMaxFileTextBytes >> 20) + " MiB together");
  }
  total_ += bytes;
}

std::span<const std::byte> VlenTextReader::heap_object(uint64_t collection, uint32_t index,
                                                       const std::string& shown) {
  const auto& objects = list(collection, shown).objects;
  const auto found =
      std::lower_bound(objects.begin(), objects.end(), index,
                       [](const auto& object, uint32_t wanted) { return object.first < wanted; });
  if (found == objects.end() || found->first != index) {
    Cursor({}, shown).fail("a text is not in its heap");
  }
  return found->second;
}

const VlenTextReader::Collection& VlenTextReader::list(uint64_t address, const std::string& shown) {
  const auto next = collections_.lower_bound(address);
  if (next != collections_.end() && next->first == address) return next->second;
  Cursor header = cursor_at(file_, address, shown);
  header.expect("GCOL");
  if (header.number<uint8_t>() != 1) header.fail("heap version is not 1");
  header.take(3);
  const auto size = header.number<uint64_t>();
  constexpr uint64_t kHeaderBytes = 16;
  if (size < kHeaderBytes) header.fail("a heap is shorter than its header");
  Cursor objects(header.take(size - kHeaderBytes), shown);
  // Else listing many that lie in each other would take the square of the file's size.
  if ((next != collections_.end() && next->first < address + size) ||
      (next != collections_.begin() && std::prev(next)->second.end > address)) {
    header.fail("two of its heaps share bytes");
  }
  Collection result{address + size, {}};
  while (objects.left() >= kHeaderBytes) {
    const auto index = objects.number<uint16_t>();
    objects.take(6);  // Reference count and padding.
    const auto bytes = objects.number<uint64_t>();
    if (index == 0) break;  // What follows is free.
    result.objects.emplace_back(index, objects.take(bytes));
    objects.take(std::min<size_t>((8 - bytes % 8) % 8, objects.left()));
  }
  std::stable_sort(result.objects.begin(), result.objects.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  return collections_.emplace(address, std::move(result)).first->second;
}

}  // namespace pare
