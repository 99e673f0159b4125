#include "formats/hdf5_walk.h"

#include <hdf5.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <map>

#include "formats/checkpoint_layout.h"
#include "formats/hdf5_library.h"
#include "formats/hdf5_texts.h"
#include "pare/error.h"

namespace pare {
namespace {

constexpr std::array<uint8_t, 8> kSignature{0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
constexpr hsize_t kMaxDatasets = 1'000'000;
constexpr int kMaxAttributes = 64;
constexpr int kMaxRank = 32;

struct Link {
  std::string name;
  H5L_type_t type;
};

herr_t collect_link(hid_t /*group*/, const char* name, const H5L_info_t* info, void* out) noexcept {
  try {
    static_cast<std::vector<Link>*>(out)->push_back({name, info->type});
    return 0;
  } catch (...) {
    return -1;  // Out of memory must not unwind through C.
  }
}

/// The types of hdf5_types.h; make_f16() in hdf5_output.cpp describes the half.
bool is_half(hid_t type) {
  size_t sign = 0;
  size_t exponent = 0;
  size_t exponent_bits = 0;
  size_t mantissa = 0;
  size_t mantissa_bits = 0;
  return H5Tget_class(type) == H5T_FLOAT && H5Tget_size(type) == 2 &&
         H5Tget_order(type) == H5T_ORDER_LE && H5Tget_ebias(type) == 15 &&
         H5Tget_fields(type, &sign, &exponent, &exponent_bits, &mantissa, &mantissa_bits) >= 0 &&
         sign == 15 && exponent == 10 && exponent_bits == 5 && mantissa == 0 && mantissa_bits == 10;
}

/// Walks one open file; the members are what its messages need.
class Walker {
 public:
  Walker(const MappedFile& file, Hdf5Contents& contents)
      : file_(file), contents_(contents), texts_(file.bytes()) {}

  void walk() {
    check_superblock();
    const Hdf5Session session;
    const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG);
    H5Pset_file_locking(access.get(), false, true);
    const Hdf5Handle handle(H5Fopen(file_.path().c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose);
    require(handle.valid(), "the HDF5 library cannot open it");
    const Hdf5Handle root(H5Gopen2(handle.get(), "/", H5P_DEFAULT), H5Gclose);
    require(root.valid(), "the root group cannot be opened");
    contents_.root = read_attributes(root.get(), "/");
    bool has_tensors = false;
    for (const Link& link : links_of(root.get(), "/")) {
      if (link.name == kTensorGroup) {
        has_tensors = true;
        contents_.tensors = walk_group(root.get(), link.name);
      } else if (link.name == kMetaGroup) {
        contents_.meta = walk_group(root.get(), link.name);
      } else {
        fail("\"/" + link.name + "\": expected the groups /tensors and /meta alone");
      }
    }
    if (!has_tensors) fail("the group /tensors is missing (not a checkpoint?)");
    check_overlaps();
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kInputMalformed, file_.path() + ": " + what);
  }
  void require(bool success, const std::string& what) const {
    if (!success) fail(what + ": " + hdf5_error_text() + " (damaged file?)");
  }

  uint64_t number_at(size_t position) const {
    uint64_t value = 0;
    std::memcpy(&value, file_.bytes().data() + position, sizeof value);
    return value;
  }

  /// What can be said in clear words before the library looks: is it HDF5, and is it all there?
  void check_superblock() const {
    const std::span<const std::byte> bytes = file_.bytes();
    if (!has_hdf5_signature(bytes) || bytes.size() < 96) {
      fail("not an HDF5 file, or shorter than its header");
    }
    const auto version = static_cast<int>(bytes[8]);
    if (version != 2 && version != 3) {
      fail("HDF5 superblock version " + std::to_string(version) + ", expected 2 or 3");
    }
    if (bytes[9] != std::byte{8} || bytes[10] != std::byte{8}) {
      fail("HDF5 offsets and lengths are not 8 bytes wide");
    }
    if (number_at(12) != 0) fail("HDF5 base address is not 0");
    const uint64_t end = number_at(28);
    if (end > bytes.size()) {
      fail("the file ends at " + std::to_string(end) + " by its header, found " +
           std::to_string(bytes.size()) +
           " bytes (file truncated? compare with the source's size)");
    }
  }

  std::vector<Link> links_of(hid_t group, const std::string& shown) const {
    H5G_info_t info = {};
    require(H5Gget_info(group, &info) >= 0, shown + " cannot be read");
    if (info.nlinks > kMaxDatasets) {
      fail(shown + " holds " + std::to_string(info.nlinks) + " objects, expected at most " +
           std::to_string(kMaxDatasets));
    }
    std::vector<Link> links;
    require(H5Literate(group, H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, collect_link, &links) >= 0,
            shown + " cannot be listed");
    std::sort(links.begin(), links.end(),
              [](const Link& a, const Link& b) { return a.name < b.name; });
    for (const Link& link : links) {
      if (link.type != H5L_TYPE_HARD) {
        fail("\"" + link.name + "\" is a " +
             (link.type == H5L_TYPE_SOFT       ? "soft"
              : link.type == H5L_TYPE_EXTERNAL ? "external"
                                               : "user-defined") +
             " link; a checkpoint holds its tensors itself");
      }
      if (!is_valid_dataset_name(link.name)) {
        fail("\"" + link.name + "\" is not a valid name (1 to 512 bytes of UTF-8 without \"..\")");
      }
    }
    return links;
  }

  std::vector<StoredDataset> walk_group(hid_t root, const std::string& name) {
    const Hdf5Handle group(H5Oopen(root, name.c_str(), H5P_DEFAULT), H5Oclose);
    require(group.valid(), "/" + name + " cannot be opened");
    if (H5Iget_type(group.get()) != H5I_GROUP) fail("/" + name + " is not a group");
    std::vector<StoredDataset> datasets;
    for (const Link& link : links_of(group.get(), "/" + name)) {
      datasets.push_back(walk_dataset(group.get(), link.name));
      // Each header that is looked at brings its neighbourhood into memory.
      constexpr size_t kBetweenReleases = 256;
      if (datasets.size() % kBetweenReleases == 0) file_.release(file_.bytes());
    }
    file_.release(file_.bytes());
    return datasets;
  }

  StoredDataset walk_dataset(hid_t group, const std::string& name) {
    const std::string shown = "tensor \"" + name + "\"";
    const Hdf5Handle dataset(H5Oopen(group, name.c_str(), H5P_DEFAULT), H5Oclose);
    require(dataset.valid(), shown + " cannot be opened");
    if (H5Iget_type(dataset.get()) != H5I_DATASET) {
      fail(shown + " is not a dataset; /tensors and /meta are flat");
    }
    check_creation(dataset.get(), shown);
    StoredDataset result;
    result.name = name;
    result.type = read_type(dataset.get(), shown);
    result.shape = read_shape(dataset.get(), shown);
    place(dataset.get(), shown, result);
    result.attributes = read_attributes(dataset.get(), shown);
    return result;
  }

  void check_creation(hid_t dataset, const std::string& shown) const {
    const Hdf5Handle creation(H5Dget_create_plist(dataset), H5Pclose);
    require(creation.valid(), shown + " has no readable properties");
    if (H5Pget_layout(creation.get()) != H5D_CONTIGUOUS) {
      fail(shown + " is stored chunked, compact or virtual, expected contiguous");
    }
    if (H5Pget_nfilters(creation.get()) != 0) fail(shown + " passes through filters");
    if (H5Pget_external_count(creation.get()) != 0) fail(shown + " is stored in external files");
  }

  StoredType read_type(hid_t dataset, const std::string& shown) const {
    const Hdf5Handle type(H5Dget_type(dataset), H5Tclose);
    require(type.valid(), shown + " has no readable type");
    const std::array<std::pair<StoredType, hid_t>, 8> known{{{StoredType::kU8, H5T_STD_U8LE},
                                                             {StoredType::kI8, H5T_STD_I8LE},
                                                             {StoredType::kU16, H5T_STD_U16LE},
                                                             {StoredType::kI16, H5T_STD_I16LE},
                                                             {StoredType::kI32, H5T_STD_I32LE},
                                                             {StoredType::kI64, H5T_STD_I64LE},
                                                             {StoredType::kF32, H5T_IEEE_F32LE},
                                                             {StoredType::kF64, H5T_IEEE_F64LE}}};
    for (const auto& [stored, id] : known) {
      if (H5Tequal(type.get(), id) > 0) return stored;
    }
    if (is_half(type.get())) return StoredType::kF16;
    fail(shown + " has an element type other than little-endian integers and IEEE numbers");
  }

  Shape read_shape(hid_t dataset, const std::string& shown) const {
    const Hdf5Handle space(H5Dget_space(dataset), H5Sclose);
    require(space.valid(), shown + " has no readable shape");
    const H5S_class_t kind = H5Sget_simple_extent_type(space.get());
    if (kind == H5S_SCALAR) return {};
    const int rank = H5Sget_simple_extent_ndims(space.get());
    if (kind != H5S_SIMPLE || rank < 0 || rank > kMaxRank) fail(shown + " has no simple shape");
    std::vector<hsize_t> dimensions(static_cast<size_t>(rank));
    require(H5Sget_simple_extent_dims(space.get(), dimensions.data(), nullptr) == rank,
            shown + " has no readable shape");
    Shape shape;
    for (const hsize_t dimension : dimensions) {
      if (dimension > static_cast<hsize_t>(std::numeric_limits<int64_t>::max())) {
        fail(shown + " has a dimension of " + std::to_string(dimension));
      }
      shape.push_back(static_cast<int64_t>(dimension));
    }
    return shape;
  }

  /// Fills offset and size; afterwards they are inside the file and agree with the shape.
  void place(hid_t dataset, const std::string& shown, StoredDataset& result) const {
    uint64_t size = stored_type_size(result.type);
    for (const int64_t dimension : result.shape) {
      if (__builtin_mul_overflow(size, static_cast<uint64_t>(dimension), &size)) {
        fail(shown + ": shape " + shape_text(result.shape) + " is larger than any file");
      }
    }
    const hsize_t stored = H5Dget_storage_size(dataset);
    if (stored != size) {
      fail(shown + ": shape " + shape_text(result.shape) + " needs " + std::to_string(size) +
           " bytes, the file stores " + std::to_string(stored));
    }
    if (size == 0) return;
    const haddr_t offset = H5Dget_offset(dataset);
    if (offset == HADDR_UNDEF) fail(shown + " has no data");
    const uint64_t end = file_.bytes().size();
    if (offset > end || size > end - offset) {
      fail(shown + ": " + std::to_string(size) + " bytes at offset " + std::to_string(offset) +
           " reach beyond the file of " + std::to_string(end) + " bytes");
    }
    result.offset = offset;
    result.size = size;
  }

  AttributeMap read_attributes(hid_t object, const std::string& shown) {
    const int count = H5Aget_num_attrs(object);
    if (count < 0 || count > kMaxAttributes) {
      fail(shown + " has " + std::to_string(count) + " attributes, expected at most " +
           std::to_string(kMaxAttributes));
    }
    H5O_info_t info = {};
    require(H5Oget_info2(object, &info, H5O_INFO_BASIC) >= 0, shown + " has no readable header");
    const auto [seen, is_new] = seen_.emplace(info.addr, shown);
    // Each name would have the attributes read and kept once more, without a byte of the file.
    if (!is_new) fail(seen->second + " and " + shown + " are one object: they share bytes");
    auto texts = texts_.read(info.addr, file_.path() + ": " + shown);
    AttributeMap result;
    for (int i = 0; i < count; ++i) {
      const Hdf5Handle attribute(H5Aopen_by_idx(object, ".", H5_INDEX_NAME, H5_ITER_INC,
                                                static_cast<hsize_t>(i), H5P_DEFAULT, H5P_DEFAULT),
                                 H5Aclose);
      require(attribute.valid(), shown + ": an attribute cannot be opened");
      const ssize_t length = H5Aget_name(attribute.get(), 0, nullptr);
      if (length < 1 || length > 255) fail(shown + " has an attribute with an impossible name");
      std::string name(static_cast<size_t>(length) + 1, '\0');
      H5Aget_name(attribute.get(), name.size(), name.data());
      name.pop_back();
      const auto text = texts.find(name);
      if (text != texts.end()) {
        result.emplace(name, std::move(text->second));
        continue;
      }
      result.emplace(name, read_attribute(attribute.get(), shown + ": attribute \"" + name + "\""));
    }
    return result;
  }

  AttributeValue read_attribute(hid_t attribute, const std::string& shown) {
    const Hdf5Handle type(H5Aget_type(attribute), H5Tclose);
    const Hdf5Handle space(H5Aget_space(attribute), H5Sclose);
    require(type.valid() && space.valid(), shown + " cannot be read");
    const hssize_t count = H5Sget_simple_extent_npoints(space.get());
    const int rank = H5Sget_simple_extent_ndims(space.get());
    if (count < 0 || count > kMaxRank || rank < 0 || rank > 1) {
      fail(shown + " is neither a single value nor a short list");
    }
    switch (H5Tget_class(type.get())) {
      case H5T_STRING:
        if (rank == 0 && count == 1) return read_text(attribute, type, shown);
        break;
      case H5T_INTEGER: {
        if (H5Tget_size(type.get()) > sizeof(int64_t)) break;
        std::vector<int64_t> values(static_cast<size_t>(count));
        if (count > 0) {
          require(H5Aread(attribute, H5T_NATIVE_INT64, values.data()) >= 0,
                  shown + " cannot be read");
        }
        if (rank == 0 && count == 1) return values[0];
        if (rank == 1) return values;
        break;
      }
      default:
        break;
    }
    fail(shown + " is neither a text nor integers");
  }

  std::string read_text(hid_t attribute, const Hdf5Handle& type, const std::string& shown) {
    // Those of variable length were read by VlenTextReader, and the library must not try.
    if (H5Tis_variable_str(type.get()) != 0) fail(shown + " is not in the object's header");
    const size_t size = H5Tget_size(type.get());
    if (size == 0 || size > kMaxTextBytes) fail(shown + " is longer than 16 MiB");
    texts_.count(size, file_.path() + ": " + shown);
    std::string result(size, '\0');
    require(H5Aread(attribute, type.get(), result.data()) >= 0, shown + " cannot be read");
    result.resize(strnlen(result.data(), size));
    return result;
  }

  void check_overlaps() const {
    std::vector<const StoredDataset*> order;
    for (const auto* group : {&contents_.tensors, &contents_.meta}) {
      for (const StoredDataset& dataset : *group) {
        if (dataset.size > 0) order.push_back(&dataset);
      }
    }
    std::sort(order.begin(), order.end(),
              [](const StoredDataset* a, const StoredDataset* b) { return a->offset < b->offset; });
    for (size_t i = 1; i < order.size(); ++i) {
      if (order[i]->offset < order[i - 1]->offset + order[i - 1]->size) {
        fail("tensors \"" + order[i - 1]->name + "\" and \"" + order[i]->name +
             "\" share bytes of the file");
      }
    }
  }

  const MappedFile& file_;
  Hdf5Contents& contents_;
  VlenTextReader texts_;
  std::map<haddr_t, std::string> seen_;  ///< Objects by the address of their header.
};

}  // namespace

bool has_hdf5_signature(std::span<const std::byte> bytes) noexcept {
  return bytes.size() >= kSignature.size() &&
         std::memcmp(bytes.data(), kSignature.data(), kSignature.size()) == 0;
}

Hdf5Contents walk_hdf5(const MappedFile& file) {
  Hdf5Contents contents;
  Walker(file, contents).walk();
  return contents;
}

}  // namespace pare
