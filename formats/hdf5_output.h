// Writes one HDF5 file of contiguous, aligned datasets in the groups /tensors and /meta.
//
// Creation properties are fixed (docs/checkpoint.md), so that the bytes depend only on what is
// written and in which order. The library lays out the file; payloads go around it by pwrite at the
// datasets' offsets. Space is reserved before the library may write, because it cannot close a file
// on a full disk. Not thread-safe.
//
//   Hdf5Output output(file, "out.h5.pare-tmp", "out.h5");
//   output.write("tensors", "model.norm.weight", StoredType::kU16, {640}, bytes, attributes);
//   output.close({{"pare_format", "pare-checkpoint"}});
#pragma once

#include <memory>
#include <span>
#include <string>

#include "formats/hdf5_types.h"
#include "formats/output_file.h"

namespace pare {

class Hdf5Output {
 public:
  /// `file` is `path`, opened; it must outlive this object. `shown` is the path for messages.
  /// Throws Error(kWriteFailed), as all methods do.
  Hdf5Output(GrowingFile& file, const std::string& path, const std::string& shown);
  ~Hdf5Output();
  Hdf5Output(const Hdf5Output&) = delete;
  Hdf5Output& operator=(const Hdf5Output&) = delete;

  /// Writes a dataset with `attributes` and, after them, `sha256` of the bytes.
  /// REQUIRES: is_valid_dataset_name(name), the name is new, and bytes match type and shape.
  void write(const std::string& group, const std::string& name, StoredType type, const Shape& shape,
             std::span<const std::byte> bytes, const AttributeList& attributes);

  /// Writes the root's attributes and closes the file; it is not synced yet.
  void close(const AttributeList& root_attributes);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pare
