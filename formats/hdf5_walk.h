// Lists what an HDF5 checkpoint file holds, refusing everything that version 1 has no use for.
//
// A file is hostile input: links that lead elsewhere, external and virtual data, filters, chunked
// or compact layout, foreign types, impossible shapes, data outside the file and data that overlap
// are refused by name before any payload is touched. The library closes the file before this
// returns; payloads are then read from a mapping at the offsets found here. Thread-safe.
//
//   const MappedFile file("out.h5");
//   const Hdf5Contents contents = walk_hdf5(file);
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/hdf5_types.h"
#include "formats/mapped_file.h"

namespace pare {

struct StoredDataset {
  std::string name;
  StoredType type = StoredType::kU8;
  Shape shape;
  uint64_t offset = 0;  ///< From the start of the file; 0 when there are no bytes.
  uint64_t size = 0;    ///< Bytes.
  AttributeMap attributes;
};

struct Hdf5Contents {
  AttributeMap root;                   ///< The root group's attributes.
  std::vector<StoredDataset> tensors;  ///< Group /tensors, sorted by name.
  std::vector<StoredDataset> meta;     ///< Group /meta, sorted by name; empty when absent.
};

/// Throws Error(kInputMalformed); the message names the file, the object and the rule.
Hdf5Contents walk_hdf5(const MappedFile& file);

/// Whether the bytes begin with HDF5's signature.
bool has_hdf5_signature(std::span<const std::byte> bytes) noexcept;

}  // namespace pare
