// Reads the variable-length text attributes of one HDF5 object, without the library.
//
// Such texts live in "global heap collections", the one structure of a checkpoint that carries no
// checksum, and HDF5 1.10 trusts it: one flipped bit there can crash or hang the library. So the
// walker never lets the library read them. This parser knows version 2 object headers with
// attributes in the header, which is all that a checkpoint has, and checks every length.
//
// Layout (HDF5 File Format Specification 3.0, IV.A.1.b, IV.A.2.m and III.E):
//   "OHDR" header → chunks of messages → attribute message (type 12), version 3
//     → value { u32 length, u64 collection, u32 index } → "GCOL" collection → object `index`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>

namespace pare {

/// Attribute name → text, for the attributes of the object whose header is at `header` that are
/// single variable-length texts. Throws Error(kInputMalformed), its message beginning with `shown`,
/// when a structure is not as expected or reaches beyond `file`. Thread-safe.
std::map<std::string, std::string> read_vlen_texts(std::span<const std::byte> file, uint64_t header,
                                                   const std::string& shown);

}  // namespace pare
