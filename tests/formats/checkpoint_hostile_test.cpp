// One malicious file for each rule of the strict reader (docs/checkpoint.md, "What a reader
// refuses"), as far as the HDF5 library writes it into a checkpoint: checkpoint_forged_test.cpp has
// those that it does not, checkpoint_shards_test.cpp those about shards.
#include <gtest/gtest.h>
#include <hdf5.h>

#include "formats/checkpoint_reader.h"
#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

constexpr const char* kWeight = "/tensors/m.weight";

void set_text(hid_t file, const char* object, const char* name, const char* value) {
  const hid_t id = H5Oopen(file, object, H5P_DEFAULT);
  if (H5Aexists(id, name) > 0) H5Adelete(id, name);
  const hid_t type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, H5T_VARIABLE);
  const hid_t space = H5Screate(H5S_SCALAR);
  const hid_t attribute = H5Acreate2(id, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
  H5Awrite(attribute, type, &value);
  H5Aclose(attribute);
  H5Sclose(space);
  H5Tclose(type);
  H5Oclose(id);
}

void set_numbers(hid_t file, const char* object, const char* name, std::vector<int64_t> values,
                 bool scalar) {
  const hid_t id = H5Oopen(file, object, H5P_DEFAULT);
  if (H5Aexists(id, name) > 0) H5Adelete(id, name);
  const hsize_t count = values.size();
  const hid_t space = scalar ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &count, nullptr);
  const hid_t attribute = H5Acreate2(id, name, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);
  H5Awrite(attribute, H5T_NATIVE_INT64, values.data());
  H5Aclose(attribute);
  H5Sclose(space);
  H5Oclose(id);
}

void delete_attribute(hid_t file, const char* object, const char* name) {
  H5Adelete_by_name(file, object, name, H5P_DEFAULT);
}

/// Adds dataset /tensors/evil; `prepare` changes its creation properties.
hid_t add_dataset(hid_t file, hid_t type, const std::vector<hsize_t>& shape,
                  const std::function<void(hid_t)>& prepare, const char* name = "/tensors/evil") {
  const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
  prepare(creation);
  const hid_t space = H5Screate_simple(static_cast<int>(shape.size()), shape.data(), shape.data());
  const hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
  EXPECT_GE(dataset, 0);
  H5Sclose(space);
  H5Pclose(creation);
  H5Dclose(dataset);
  return dataset;
}

void early(hid_t creation) { H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY); }

/// Adds a link of a kind that only this program knows, and only until this returns.
void add_user_defined_link(hid_t file) {
  constexpr auto kKind = static_cast<H5L_type_t>(100);
  H5L_class_t kind = {};
  kind.version = H5L_LINK_CLASS_T_VERS;
  kind.id = kKind;
  kind.trav_func = [](const char*, hid_t, const void*, size_t, hid_t, hid_t) -> hid_t {
    return -1;
  };
  EXPECT_GE(H5Lregister(&kind), 0);
  EXPECT_GE(H5Lcreate_ud(file, "/tensors/evil", kKind, "x", 1, H5P_DEFAULT, H5P_DEFAULT), 0);
  H5Lunregister(kKind);
}

/// An attribute whose type is another object of the file.
void add_attribute_of_shared_type(hid_t file, const char* object) {
  const hid_t type = H5Tcopy(H5T_STD_I64LE);
  EXPECT_GE(H5Tcommit_anon(file, type, H5P_DEFAULT, H5P_DEFAULT), 0);
  const hid_t space = H5Screate(H5S_SCALAR);
  const hid_t attribute =
      H5Acreate_by_name(file, object, "evil", type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  EXPECT_GE(attribute, 0);
  H5Aclose(attribute);
  H5Sclose(space);
  H5Tclose(type);
}

struct Attack {
  const char* name;
  std::function<void(hid_t)> damage;
  std::vector<std::string> message;
};

std::vector<Attack> attacks() {
  return {
      {"soft_link",
       [](hid_t f) { H5Lcreate_soft(kWeight, f, "/tensors/evil", 0, 0); },
       {"\"evil\"", "soft link"}},
      {"external_link",
       [](hid_t f) { H5Lcreate_external("/etc/passwd", "/x", f, "/tensors/evil", 0, 0); },
       {"\"evil\"", "external link"}},
      {"user_defined_link", add_user_defined_link, {"\"evil\"", "user-defined link"}},
      {"root_link",
       [](hid_t f) { H5Lcreate_soft("/tensors", f, "/evil", 0, 0); },
       {"\"evil\"", "soft link"}},
      {"hard_link",
       [](hid_t f) { H5Lcreate_hard(f, "/tensors/norm", f, "/tensors/evil", 0, 0); },
       {"\"evil\"", "share bytes"}},
      {"group_cycle",
       [](hid_t f) { H5Lcreate_hard(f, "/", f, "/tensors/evil", 0, 0); },
       {"\"evil\"", "not a dataset"}},
      {"subgroup",
       [](hid_t f) { H5Gclose(H5Gcreate2(f, "/tensors/evil", 0, 0, 0)); },
       {"\"evil\"", "not a dataset"}},
      {"other_group", [](hid_t f) { H5Gclose(H5Gcreate2(f, "/evil", 0, 0, 0)); }, {"/evil"}},
      {"no_tensors", [](hid_t f) { H5Ldelete(f, "/tensors", 0); }, {"/tensors is missing"}},
      {"external_file",
       [](hid_t f) {
         add_dataset(f, H5T_STD_U8LE, {8},
                     [](hid_t c) { H5Pset_external(c, "/etc/passwd", 0, 8); });
       },
       {"\"evil\"", "external files"}},
      {"virtual",
       [](hid_t f) {
         add_dataset(f, H5T_STD_U8LE, {8}, [](hid_t c) {
           const hsize_t shape = 8;
           const hid_t space = H5Screate_simple(1, &shape, nullptr);
           H5Pset_virtual(c, space, "/etc/passwd", "/x", space);
           H5Sclose(space);
         });
       },
       {"\"evil\"", "virtual"}},
      {"chunked",
       [](hid_t f) {
         add_dataset(f, H5T_STD_U8LE, {8}, [](hid_t c) {
           const hsize_t shape = 4;
           H5Pset_chunk(c, 1, &shape);
         });
       },
       {"\"evil\"", "contiguous"}},
      {"filtered_bomb",
       [](hid_t f) {
         add_dataset(f, H5T_STD_U8LE, {hsize_t{1} << 40}, [](hid_t c) {
           const hsize_t shape = hsize_t{1} << 20;
           H5Pset_chunk(c, 1, &shape);
           H5Pset_deflate(c, 9);
         });
       },
       {"\"evil\"", "contiguous"}},
      {"compact",
       [](hid_t f) {
         add_dataset(f, H5T_STD_U8LE, {8}, [](hid_t c) { H5Pset_layout(c, H5D_COMPACT); });
       },
       {"\"evil\"", "compact"}},
      {"big_endian",
       [](hid_t f) { add_dataset(f, H5T_STD_U16BE, {8}, early); },
       {"\"evil\"", "element type"}},
      {"compound",
       [](hid_t f) {
         const hid_t type = H5Tcreate(H5T_COMPOUND, 2);
         H5Tinsert(type, "a", 0, H5T_STD_U8LE);
         add_dataset(f, type, {8}, early);
         H5Tclose(type);
       },
       {"\"evil\"", "element type"}},
      {"variable_length",
       [](hid_t f) {
         const hid_t type = H5Tvlen_create(H5T_STD_U8LE);
         add_dataset(f, type, {8}, early);
         H5Tclose(type);
       },
       {"\"evil\"", "element type"}},
      {"opaque",
       [](hid_t f) {
         const hid_t type = H5Tcreate(H5T_OPAQUE, 2);
         add_dataset(f, type, {8}, early);
         H5Tclose(type);
       },
       {"\"evil\"", "element type"}},
      {"reference",
       [](hid_t f) { add_dataset(f, H5T_STD_REF_OBJ, {8}, early); },
       {"\"evil\"", "element type"}},
      {"enumeration",
       [](hid_t f) {
         const hid_t type = H5Tenum_create(H5T_STD_U8LE);
         const uint8_t value = 1;
         H5Tenum_insert(type, "a", &value);
         add_dataset(f, type, {8}, early);
         H5Tclose(type);
       },
       {"\"evil\"", "element type"}},
      {"odd_float",
       [](hid_t f) {
         const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
         H5Tset_fields(type, 15, 7, 8, 0, 7);
         H5Tset_size(type, 2);
         H5Tset_ebias(type, 127);
         add_dataset(f, type, {8}, early);
         H5Tclose(type);
       },
       {"\"evil\"", "element type"}},
      {"shape_bomb_without_data",
       [](hid_t f) { add_dataset(f, H5T_STD_U8LE, {hsize_t{1} << 40}, [](hid_t) {}); },
       {"\"evil\""}},
      {"dots",
       [](hid_t f) { add_dataset(f, H5T_STD_U8LE, {8}, early, "/tensors/a..b"); },
       {"valid name"}},
      {"long_name",
       [](hid_t f) {
         add_dataset(f, H5T_STD_U8LE, {8}, early, ("/tensors/" + std::string(513, 'n')).c_str());
       },
       {"valid name"}},
      {"not_utf8",
       [](hid_t f) { add_dataset(f, H5T_STD_U8LE, {8}, early, "/tensors/\xc0\xaf"); },
       {"valid name"}},
      {"bare_dataset",
       [](hid_t f) {
         add_dataset(f, H5T_STD_U8LE, {8}, early);
         set_numbers(f, "/", "total_bytes", {528}, true);
       },
       {"\"evil\"", "\"logical_shape\" is missing"}},
      {"format", [](hid_t f) { set_text(f, "/", "pare_format", "other"); }, {"\"other\""}},
      {"no_format", [](hid_t f) { delete_attribute(f, "/", "pare_format"); }, {"pare_format"}},
      {"version",
       [](hid_t f) { set_numbers(f, "/", "pare_format_version", {3}, true); },
       {"version 3"}},
      {"version_text",
       [](hid_t f) { set_text(f, "/", "pare_format_version", "1"); },
       {"not an integer"}},
      {"total", [](hid_t f) { set_numbers(f, "/", "total_bytes", {5}, true); }, {"total_bytes"}},
      {"config", [](hid_t f) { set_text(f, "/", "config_json", "{"); }, {"config_json"}},
      {"dtype", [](hid_t f) { set_text(f, kWeight, "dtype", "int3_packed"); }, {"int3_packed"}},
      {"dense_dtype",
       [](hid_t f) { set_text(f, "/tensors/norm", "dtype", "complex64"); },
       {"\"norm\"", "complex64"}},
      {"wrong_dtype",
       [](hid_t f) { set_text(f, "/tensors/norm", "dtype", "int16"); },
       {"\"norm\"", "uint16", "int16"}},
      {"scheme", [](hid_t f) { set_text(f, kWeight, "scheme", "fp8"); }, {"\"fp8\""}},
      {"packing",
       [](hid_t f) { set_text(f, kWeight, "packing", "hi_nibble_first"); },
       {"hi_nibble_first"}},
      {"symmetric",
       [](hid_t f) { set_numbers(f, kWeight, "symmetric", {1}, true); },
       {"symmetric"}},
      {"activation", [](hid_t f) { set_text(f, kWeight, "activation", "int2"); }, {"int2"}},
      {"group_size", [](hid_t f) { set_numbers(f, kWeight, "group_size", {-2}, true); }, {"-2"}},
      {"other_group_size",
       [](hid_t f) { set_numbers(f, kWeight, "group_size", {16}, true); },
       {"m.weight_scale", "[4, 4]"}},
      {"shape",
       [](hid_t f) {
         set_numbers(f, kWeight, "logical_shape", {4, 60}, false);
       },
       {"m.weight"}},
      {"shape_bomb",
       [](hid_t f) {
         set_numbers(f, kWeight, "logical_shape", {int64_t{1} << 40, int64_t{1} << 40}, false);
       },
       {"m.weight", "logical_shape"}},
      {"negative_shape",
       [](hid_t f) {
         set_numbers(f, kWeight, "logical_shape", {-4, -64}, false);
       },
       {"m.weight"}},
      {"shape_list",
       [](hid_t f) { set_numbers(f, kWeight, "logical_shape", {4}, true); },
       {"list of integers"}},
      {"scale_elsewhere", [](hid_t f) { set_text(f, kWeight, "scale", "nobody"); }, {"nobody"}},
      {"scale_is_codes", [](hid_t f) { set_text(f, kWeight, "scale", "m.weight"); }, {"m.weight"}},
      {"scale_twice",
       [](hid_t f) { set_text(f, kWeight, "scale", "m.pre_quant_scale"); },
       {"m.pre_quant_scale"}},
      {"no_scale", [](hid_t f) { delete_attribute(f, kWeight, "scale"); }, {"\"scale\""}},
      {"no_mask", [](hid_t f) { delete_attribute(f, kWeight, "mask_index"); }, {"mask_index"}},
      {"mask_encoding", [](hid_t f) { set_text(f, kWeight, "mask_encoding", "bits"); }, {"bits"}},
      {"extra_scale",
       [](hid_t f) { set_text(f, kWeight, "global_scale", "x"); },
       {"global_scale", "not known"}},
      {"sha256", [](hid_t f) { set_text(f, "/tensors/norm", "sha256", "abc"); }, {"sha256"}},
      {"no_sha256", [](hid_t f) { delete_attribute(f, "/tensors/norm", "sha256"); }, {"sha256"}},
      {"long_list",
       [](hid_t f) {
         set_numbers(f, "/tensors/norm", "logical_shape", std::vector<int64_t>(33, 1), false);
       },
       {"logical_shape", "short list"}},
      {"many_attributes",
       [](hid_t f) {
         for (int i = 0; i < 70; ++i) {
           set_numbers(f, "/tensors/norm", ("a" + std::to_string(i)).c_str(), {1}, true);
         }
       },
       {"\"norm\"", "73 attributes", "at most 64"}},
      {"dense_attributes",
       [](hid_t f) {
         add_dataset(f, H5T_STD_U8LE, {8}, [](hid_t c) {
           early(c);
           H5Pset_attr_phase_change(c, 0, 0);
         });
         set_text(f, "/tensors/evil", "dtype", "uint8");
       },
       {"\"evil\"", "dense storage"}},
      {"attribute_of_shared_type",
       [](hid_t f) { add_attribute_of_shared_type(f, "/tensors/norm"); },
       {"\"norm\"", "type or shape is shared"}},
      {"long_text",
       [](hid_t f) {
         set_text(f, "/", "recipe_json", std::string((size_t{16} << 20) + 1, ' ').c_str());
       },
       {"a text is too long"}},
      {"many_long_texts",
       [](hid_t f) {
         const std::string text(size_t{14} << 20, ' ');
         for (const char* object : {"/", "/tensors/norm"}) {
           for (const char* name : {"x", "y", "z"}) set_text(f, object, name, text.c_str());
         }
       },
       {"\"norm\"", "64 MiB"}},
  };
}

TEST(HostileCheckpoint, EachRuleRefusesItsFile) {
  const TempFolder folder;
  for (const Attack& attack : attacks()) {
    SCOPED_TRACE(attack.name);
    const std::string path = folder / (std::string(attack.name) + ".h5");
    write_small_checkpoint(path);
    open_checkpoint(path);
    const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    ASSERT_GE(file, 0);
    attack.damage(file);
    ASSERT_GE(H5Fclose(file), 0);
    std::vector<std::string> parts = attack.message;
    parts.push_back(path);
    expect_error([&] { open_checkpoint(path); }, ErrorCode::kInputMalformed, parts);
  }
}

TEST(HostileCheckpoint, BadNumbersInPayloadsAreRefusedWhenRead) {
  const TempFolder folder;
  const std::string path = folder / "a.h5";
  const auto overwrite = [&](const char* dataset, uint8_t value) {
    write_small_checkpoint(path);
    const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    const hid_t id = H5Dopen2(file, dataset, H5P_DEFAULT);
    const haddr_t offset = H5Dget_offset(id);
    H5Dclose(id);
    H5Fclose(file);
    std::string bytes = read_file(path);
    for (size_t i = 0; i < 4; ++i) bytes[offset + i] = static_cast<char>(value);
    write_file(path, bytes);
    const auto source = open_checkpoint(path);
    expect_error([&] { source->compressed("m.weight"); }, ErrorCode::kInputMalformed,
                 {path, "m.weight"});
  };
  overwrite("/tensors/m.weight_scale", 0xff);     // NaN
  overwrite("/tensors/m.weight_scale", 0);        // A scale of zero.
  overwrite("/tensors/m.weight_zero_point", 16);  // More than four bits.
  overwrite("/tensors/m.mask_index", 0x55);       // idx0 == idx1
  overwrite("/tensors/m.pre_quant_scale", 0xbf);  // Negative.
}

TEST(HostileCheckpoint, OtherHdf5FilesAreRefused) {
  const TempFolder folder;
  const std::string path = folder / "other.h5";
  H5Fclose(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
  expect_error([&] { open_weight_source(path); }, ErrorCode::kInputMalformed,
               {path, "superblock version 0"});
  const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18);
  H5Fclose(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access));
  H5Pclose(access);
  expect_error([&] { open_weight_source(path); }, ErrorCode::kInputMalformed,
               {path, "not a checkpoint?"});
  write_file(path, "\x89HDF\r\n\x1a\n" + std::string(200, '\xff'));
  expect_error([&] { open_weight_source(path); }, ErrorCode::kInputMalformed, {path, "superblock"});
}

}  // namespace
}  // namespace pare::test
