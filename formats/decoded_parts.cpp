#include "formats/decoded_parts.h"

#include <atomic>

namespace pare {

struct DecodedParts::Part {
  std::mutex mutex;  ///< Held while the part is decoded.
  std::unique_ptr<std::byte[]> bytes;
  std::atomic<size_t> size = 0;  ///< 0 until it is decoded; read without the mutex.
};

std::span<const std::byte> DecodedParts::get(
    const std::string& name, Range range, size_t bytes,
    const std::function<void(std::span<std::byte>)>& decode) {
  if (bytes == 0) return {};
  std::shared_ptr<Part> part;
  {
    const std::lock_guard lock(mutex_);
    std::shared_ptr<Part>& place = parts_[name][range];
    if (place == nullptr) place = std::make_shared<Part>();
    part = place;
  }
  const std::lock_guard lock(part->mutex);
  if (part->bytes == nullptr) {
    auto decoded = std::make_unique_for_overwrite<std::byte[]>(bytes);
    decode({decoded.get(), bytes});
    part->bytes = std::move(decoded);
    part->size = bytes;
  }
  return {part->bytes.get(), part->size};
}

void DecodedParts::release(const std::string& name) {
  std::map<Range, std::shared_ptr<Part>> freed;  // Freed outside the lock: unmapping takes time.
  const std::lock_guard lock(mutex_);
  const auto found = parts_.find(name);
  if (found == parts_.end()) return;
  freed = std::move(found->second);
  parts_.erase(found);
}

void DecodedParts::release(const std::string& name, Range range) {
  std::shared_ptr<Part> freed;
  const std::lock_guard lock(mutex_);
  const auto found = parts_.find(name);
  if (found == parts_.end()) return;
  const auto part = found->second.find(range);
  if (part == found->second.end()) return;
  freed = std::move(part->second);
  found->second.erase(part);
  if (found->second.empty()) parts_.erase(found);
}

int64_t DecodedParts::held_bytes() const {
  const std::lock_guard lock(mutex_);
  size_t total = 0;
  for (const auto& [name, ranges] : parts_) {
    for (const auto& [range, part] : ranges) total += part->size;
  }
  return static_cast<int64_t>(total);
}

}  // namespace pare
