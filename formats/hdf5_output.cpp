#include "formats/hdf5_output.h"

#include <hdf5.h>

#include <algorithm>
#include <map>

#include "core/sha256.h"
#include "formats/checkpoint_layout.h"
#include "formats/hdf5_library.h"
#include "pare/error.h"

namespace pare {
namespace {

constexpr hsize_t kAlignment = 4096;
constexpr size_t kPieceBytes = size_t{4} << 20;
/// Room for what the library writes beside the payloads between two reservations.
constexpr int64_t kMetadataSlack = int64_t{1} << 20;
/// Attributes stay in the object header up to this many; beyond, HDF5 would move them to a heap.
constexpr unsigned kMaxCompactAttributes = 64;

/// IEEE half precision, which HDF5 has no predefined type for; h5py shows it as float16.
Hdf5Handle make_f16() {
  Hdf5Handle type(H5Tcopy(H5T_IEEE_F32LE), H5Tclose);
  H5Tset_fields(type.get(), 15, 10, 5, 0, 10);
  H5Tset_size(type.get(), 2);
  H5Tset_ebias(type.get(), 15);
  return type;
}

Hdf5Handle make_type(StoredType type) {
  const auto copy = [](hid_t id) { return Hdf5Handle(H5Tcopy(id), H5Tclose); };
  switch (type) {
    case StoredType::kU8:
      return copy(H5T_STD_U8LE);
    case StoredType::kI8:
      return copy(H5T_STD_I8LE);
    case StoredType::kU16:
      return copy(H5T_STD_U16LE);
    case StoredType::kI16:
      return copy(H5T_STD_I16LE);
    case StoredType::kI32:
      return copy(H5T_STD_I32LE);
    case StoredType::kI64:
      return copy(H5T_STD_I64LE);
    case StoredType::kF16:
      return make_f16();
    case StoredType::kF32:
      return copy(H5T_IEEE_F32LE);
    case StoredType::kF64:
      return copy(H5T_IEEE_F64LE);
  }
  return {};
}

Hdf5Handle make_space(const std::vector<int64_t>& shape) {
  if (shape.empty()) return {H5Screate(H5S_SCALAR), H5Sclose};
  const std::vector<hsize_t> dimensions(shape.begin(), shape.end());
  return {H5Screate_simple(static_cast<int>(shape.size()), dimensions.data(), nullptr), H5Sclose};
}

}  // namespace

struct Hdf5Output::State {
  GrowingFile& out;
  std::string shown;
  Hdf5Handle file;
  std::map<std::string, Hdf5Handle> groups;
  Hdf5Handle dataset;  ///< The one that is being written.

  State(GrowingFile& file_out, const std::string& shown_path) : out(file_out), shown(shown_path) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    const Hdf5Session session;
    dataset.close();
    groups.clear();
    file.close();
  }

  void require(bool success) const {
    if (!success) {
      throw Error(ErrorCode::kWriteFailed, shown + ": HDF5 failed: " + hdf5_error_text());
    }
  }

  void open(const std::string& path) {
    const Hdf5Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
    const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    require(H5Pset_obj_track_times(creation.get(), false) >= 0 &&
            H5Pset_attr_phase_change(creation.get(), kMaxCompactAttributes, 0) >= 0 &&
            H5Pset_libver_bounds(access.get(), H5F_LIBVER_V18, H5F_LIBVER_V18) >= 0 &&
            H5Pset_alignment(access.get(), 1, kAlignment) >= 0 &&
            H5Pset_small_data_block_size(access.get(), 0) >= 0 &&
            H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG) >= 0 &&
            H5Pset_file_locking(access.get(), false, true) >= 0);
    file =
        Hdf5Handle(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation.get(), access.get()), H5Fclose);
    require(file.valid());
  }

  hid_t group(const std::string& name) {
    Hdf5Handle& handle = groups[name];
    if (!handle.valid()) {
      const Hdf5Handle creation(H5Pcreate(H5P_GROUP_CREATE), H5Pclose);
      require(H5Pset_obj_track_times(creation.get(), false) >= 0);
      handle = Hdf5Handle(
          H5Gcreate2(file.get(), name.c_str(), H5P_DEFAULT, creation.get(), H5P_DEFAULT), H5Gclose);
      require(handle.valid());
    }
    return handle.get();
  }

  Hdf5Handle create_dataset(hid_t parent, const std::string& name, StoredType type,
                            const Shape& shape) const {
    const Hdf5Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    const Hdf5Handle link(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
    require(H5Pset_layout(creation.get(), H5D_CONTIGUOUS) >= 0 &&
            H5Pset_alloc_time(creation.get(), H5D_ALLOC_TIME_EARLY) >= 0 &&
            H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER) >= 0 &&
            H5Pset_obj_track_times(creation.get(), false) >= 0 &&
            H5Pset_attr_phase_change(creation.get(), kMaxCompactAttributes, 0) >= 0 &&
            H5Pset_char_encoding(link.get(), H5T_CSET_UTF8) >= 0);
    const Hdf5Handle element = make_type(type);
    const Hdf5Handle space = make_space(shape);
    require(element.valid() && space.valid());
    Hdf5Handle created(H5Dcreate2(parent, name.c_str(), element.get(), space.get(), link.get(),
                                  creation.get(), H5P_DEFAULT),
                       H5Dclose);
    require(created.valid());
    return created;
  }

  void write_attribute(hid_t object, const std::string& name, hid_t file_type, hid_t memory_type,
                       const Hdf5Handle& space, const void* value) const {
    const Hdf5Handle creation(H5Pcreate(H5P_ATTRIBUTE_CREATE), H5Pclose);
    require(space.valid() && H5Pset_char_encoding(creation.get(), H5T_CSET_UTF8) >= 0);
    const Hdf5Handle attribute(
        H5Acreate2(object, name.c_str(), file_type, space.get(), creation.get(), H5P_DEFAULT),
        H5Aclose);
    require(attribute.valid() && H5Awrite(attribute.get(), memory_type, value) >= 0);
  }

  void write_attributes(hid_t object, const AttributeList& attributes) const {
    // Variable length: fixed-length strings come out of h5py as bytes, which compare unequal to
    // str.
    const Hdf5Handle string(H5Tcopy(H5T_C_S1), H5Tclose);
    require(H5Tset_size(string.get(), H5T_VARIABLE) >= 0 &&
            H5Tset_cset(string.get(), H5T_CSET_UTF8) >= 0);
    for (const auto& [name, value] : attributes) {
      if (const auto* text = std::get_if<std::string>(&value)) {
        const char* pointer = text->c_str();
        write_attribute(object, name, string.get(), string.get(), make_space({}), &pointer);
      } else if (const auto* number = std::get_if<int64_t>(&value)) {
        write_attribute(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, make_space({}), number);
      } else {
        const auto& list = std::get<std::vector<int64_t>>(value);
        const int64_t unused = 0;
        write_attribute(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64,
                        make_space({static_cast<int64_t>(list.size())}),
                        list.empty() ? &unused : list.data());
      }
    }
  }

  void reserve_more(size_t payload_bytes, const AttributeList& attributes) const {
    hsize_t size = 0;
    require(H5Fget_filesize(file.get(), &size) >= 0);
    auto end = static_cast<int64_t>(size + payload_bytes) + kMetadataSlack;
    for (const auto& [key, value] : attributes) {
      if (const auto* text = std::get_if<std::string>(&value)) {
        end += static_cast<int64_t>(text->size());
      }
    }
    out.reserve(end);
  }

  /// Opens `dataset` and returns where its payload belongs.
  int64_t begin_dataset(const std::string& parent, const std::string& name, StoredType type,
                        const Shape& shape, size_t bytes, const AttributeList& attributes) {
    reserve_more(bytes, attributes);
    dataset = create_dataset(group(parent), name, type, shape);
    write_attributes(dataset.get(), attributes);
    const haddr_t offset = bytes == 0 ? 0 : H5Dget_offset(dataset.get());
    require(offset != HADDR_UNDEF);
    return static_cast<int64_t>(offset);
  }
};

Hdf5Output::Hdf5Output(GrowingFile& file, const std::string& path, const std::string& shown)
    : state_(std::make_unique<State>(file, shown)) {
  file.reserve(kMetadataSlack);
  const Hdf5Session session;
  state_->open(path);
  state_->group(kTensorGroup);   // There even when no tensor follows.
  file.reserve(kMetadataSlack);  // Again: creating the file emptied it.
}

Hdf5Output::~Hdf5Output() = default;

void Hdf5Output::write(const std::string& group, const std::string& name, StoredType type,
                       const Shape& shape, std::span<const std::byte> bytes,
                       const AttributeList& attributes) {
  int64_t offset = 0;
  {
    const Hdf5Session session;
    offset = state_->begin_dataset(group, name, type, shape, bytes.size(), attributes);
  }
  // Copying and hashing need no library, so other files may use it meanwhile.
  Sha256 hash;
  for (size_t begin = 0; begin < bytes.size(); begin += kPieceBytes) {
    const auto piece = bytes.subspan(begin, std::min(kPieceBytes, bytes.size() - begin));
    hash.update(piece);
    state_->out.write_at(offset + static_cast<int64_t>(begin), piece);
  }
  const Hdf5Session session;
  state_->write_attributes(state_->dataset.get(), {{"sha256", hash.finish()}});
  state_->require(state_->dataset.close());
}

void Hdf5Output::close(const AttributeList& root_attributes) {
  const Hdf5Session session;
  state_->reserve_more(0, root_attributes);
  const Hdf5Handle root(H5Gopen2(state_->file.get(), "/", H5P_DEFAULT), H5Gclose);
  state_->require(root.valid());
  state_->write_attributes(root.get(), root_attributes);
  state_->groups.clear();
  state_->require(state_->file.close());
}

}  // namespace pare
