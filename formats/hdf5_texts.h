// Reads the variable-length text attributes of the objects of an HDF5 file, without the library.
//
// Such texts live in "global heap collections", the one structure of a checkpoint that carries no
// checksum, and HDF5 1.10 trusts it: one flipped bit there can crash or hang the library. So the
// walker never lets the library read them. This parser knows version 2 object headers with
// attributes in the header, which is all that a checkpoint has, and checks every length.
//
// Any number of attributes may name one text of a heap, so what a file's texts take is no more
// bounded by its size than what they take to find. Hence one reader a file: it keeps a total of
// the bytes that it gave out, and lists each collection once.
//
// Layout (HDF5 File Format Specification 3.0, IV.A.1.b, IV.A.2.m and III.E):
//   "OHDR" header → chunks of messages → attribute message (type 12), version 3
//     → value { u32 length, u64 collection, u32 index } → "GCOL" collection → object `index`.
//
//   VlenTextReader reader(file.bytes());
//   const std::map<std::string, std::string> texts = reader.read(header, "out.h5: tensor \"a\"");
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace pare {

/// Of one attribute, and of all attributes of a file together.
inline constexpr size_t kMaxTextBytes = size_t{16} << 20;
inline constexpr size_t kMaxFileTextBytes = size_t{64} << 20;

/// Reads one file, whose bytes must outlive it. Not thread-safe.
class VlenTextReader {
 public:
  explicit VlenTextReader(std::span<const std::byte> file) noexcept : file_(file) {}

  /// Attribute name → text, for the attributes of the object whose header is at `header` that are
  /// single variable-length texts. Throws Error(kInputMalformed), its message beginning with
  /// `shown`, when a structure is not as expected or reaches beyond the file, or when the texts
  /// exceed kMaxTextBytes or all that were read kMaxFileTextBytes.
  std::map<std::string, std::string> read(uint64_t header, const std::string& shown);

  /// Adds a text that was read elsewhere to the total. Throws as read().
  void count(size_t bytes, const std::string& shown);

  /// The bytes of one object of a collection. Throws as read().
  std::span<const std::byte> heap_object(uint64_t collection, uint32_t index,
                                         const std::string& shown);

 private:
  struct Collection {
    uint64_t end = 0;  ///< Where in the file it ends.
    std::vector<std::pair<uint16_t, std::span<const std::byte>>> objects;  ///< Sorted.
  };
  const Collection& list(uint64_t address, const std::string& shown);

  std::span<const std::byte> file_;
  std::map<uint64_t, Collection> collections_;  ///< By address; no two share bytes.
  size_t total_ = 0;
};

}  // namespace pare
