// Decoded copies of tensors, or of parts of them, kept until they are released.
//
// Owns the copies. Thread-safe: threads that ask for the same part at once wait while one of them
// decodes it; other parts are decoded beside it. Spans live until the part, or the whole tensor, is
// released.
//
//   std::span<const std::byte> bytes = parts.get("m.weight", {0, 64}, 128, decode);
//   parts.release("m.weight");
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>

namespace pare {

class DecodedParts {
 public:
  /// First element and number of elements.
  using Range = std::pair<int64_t, int64_t>;

  /// The `bytes` bytes that `decode` writes for this part; it is called unless they are kept
  /// already. What it throws is rethrown, and the next call tries again.
  std::span<const std::byte> get(const std::string& name, Range range, size_t bytes,
                                 const std::function<void(std::span<std::byte>)>& decode);

  /// Frees all parts of a tensor, or one. Nothing happens when there are none.
  void release(const std::string& name);
  void release(const std::string& name, Range range);

  /// Bytes that are kept at the moment.
  int64_t held_bytes() const;

 private:
  struct Part;

  mutable std::mutex mutex_;
  std::map<std::string, std::map<Range, std::shared_ptr<Part>>> parts_;
};

}  // namespace pare
