// A file mapped into memory, read-only.
//
// Owns the mapping; views into bytes() live as long as the object. Safe to read from several
// threads. A file that somebody truncates while it is mapped ends the process with SIGBUS, as
// with any mapping: outputs are replaced by renaming, never rewritten in place.
//
//   const MappedFile file("model.safetensors");
//   std::span<const std::byte> header = file.bytes().first(8);
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace pare {

class MappedFile {
 public:
  /// Throws Error(kInputMissing) when `path` does not exist, is no regular file, or cannot be
  /// read. An empty file maps to no bytes.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  const std::string& path() const noexcept { return path_; }
  std::span<const std::byte> bytes() const noexcept { return bytes_; }

  /// Drops the pages that lie wholly inside `part` from this process; they are read again from the
  /// file when touched. REQUIRES: part is inside bytes().
  void release(std::span<const std::byte> part) const noexcept;

 private:
  std::string path_;
  std::span<const std::byte> bytes_;
};

/// The content of a text file of at most `limit` bytes. Throws Error(kInputMissing) when it cannot
/// be read, Error(kInputMalformed) when it is longer.
std::string read_text_file(const std::string& path, size_t limit);

}  // namespace pare
