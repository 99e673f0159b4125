// Malicious files that take more than a call of the HDF5 library on a checkpoint: their bytes are
// changed by hand, with right checksums, or the file is another one from its start.
#include <gtest/gtest.h>
#include <hdf5.h>

#include <array>
#include <cstring>
#include <string_view>

#include "formats/checkpoint_reader.h"
#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

template <typename Number>
void put(std::string& bytes, size_t position, Number value) {
  ASSERT_LE(position + sizeof value, bytes.size());
  std::memcpy(bytes.data() + position, &value, sizeof value);
}

/// The checksum of HDF5's metadata: lookup3 (burtleburtle.net/bob/c/lookup3.c) over bytes, from 0.
/// Both of its rounds do the same step on three words that take turns.
uint32_t lookup3(std::string_view bytes) {
  std::array<uint32_t, 3> words = {};
  words.fill(0xdeadbeefU + static_cast<uint32_t>(bytes.size()));
  const auto rotated = [](uint32_t word, int bits) { return word << bits | word >> (32 - bits); };
  const auto add_block = [&] {
    std::array<uint32_t, 3> block = {};
    const size_t count = std::min(bytes.size(), sizeof block);
    std::memcpy(block.data(), bytes.data(), count);
    bytes.remove_prefix(count);
    for (size_t i = 0; i < 3; ++i) words[i] += block[i];
  };
  while (bytes.size() > 12) {
    add_block();
    size_t turn = 0;
    for (const int bits : {4, 6, 8, 16, 19, 4}) {
      uint32_t& before = words[(turn + 2) % 3];
      words[turn % 3] = (words[turn % 3] - before) ^ rotated(before, bits);
      before += words[(turn + 1) % 3];
      ++turn;
    }
  }
  add_block();
  size_t turn = 2;
  for (const int bits : {14, 11, 25, 16, 4, 14, 24}) {
    const uint32_t before = words[(turn + 2) % 3];
    words[turn % 3] = (words[turn % 3] ^ before) - rotated(before, bits);
    ++turn;
  }
  return words[2];
}

/// Creates an HDF5 file of the superblock that checkpoints have, with a group /tensors. `prepare`
/// changes the file's creation properties.
hid_t create_file(const std::string& path, const std::function<void(hid_t)>& prepare) {
  const hid_t creation = H5Pcreate(H5P_FILE_CREATE);
  prepare(creation);
  const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18);
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation, access);
  EXPECT_GE(file, 0);
  H5Pclose(access);
  H5Pclose(creation);
  H5Gclose(H5Gcreate2(file, "/tensors", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  return file;
}

void expect_refused(const std::string& path, std::vector<std::string> parts) {
  parts.push_back(path);
  expect_error([&] { open_checkpoint(path); }, ErrorCode::kInputMalformed, parts);
}

// HDF5 File Format Specification 3.0, II.B: the superblock ends with its checksum.
TEST(ForgedCheckpoint, ABaseAddressIsRefused) {
  constexpr size_t kBaseAddress = 12;
  constexpr size_t kChecksum = 44;
  const TempFolder folder;
  const std::string path = folder / "base.h5";
  write_small_checkpoint(path);
  std::string bytes = read_file(path);
  uint32_t stored = 0;
  std::memcpy(&stored, bytes.data() + kChecksum, sizeof stored);
  ASSERT_EQ(stored, lookup3(std::string_view(bytes).substr(0, kChecksum)));
  put(bytes, kBaseAddress, uint64_t{512});
  put(bytes, kChecksum, lookup3(std::string_view(bytes).substr(0, kChecksum)));
  write_file(path, bytes);
  expect_refused(path, {"base address is not 0"});
}

TEST(ForgedCheckpoint, AUserBlockIsRefused) {
  const TempFolder folder;
  const std::string path = folder / "block.h5";
  H5Fclose(create_file(path, [](hid_t creation) { H5Pset_userblock(creation, 512); }));
  expect_refused(path, {"not an HDF5 file"});
}

TEST(ForgedCheckpoint, SharedAttributesAreRefused) {
  const TempFolder folder;
  const std::string path = folder / "shared.h5";
  const hid_t file = create_file(path, [](hid_t creation) {
    H5Pset_shared_mesg_nindexes(creation, 1);
    H5Pset_shared_mesg_index(creation, 0, H5O_SHMESG_ATTR_FLAG, 1);
  });
  const hid_t space = H5Screate(H5S_SCALAR);
  const hid_t root = H5Gopen2(file, "/", H5P_DEFAULT);
  const hid_t attribute =
      H5Acreate2(root, "pare_format_version", H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);
  EXPECT_GE(attribute, 0);
  H5Aclose(attribute);
  H5Gclose(root);
  H5Sclose(space);
  ASSERT_GE(H5Fclose(file), 0);
  expect_refused(path, {"shared between objects"});
}

// The library takes long to make a million links, so that their number is forged: it stands in the
// header of the B-tree of names. HDF5 File Format Specification 3.0, III.A.2.
TEST(ForgedCheckpoint, MoreThanAMillionObjectsAreRefused) {
  constexpr std::string_view kTreeOfNames{"BTHD\0\5", 6};
  constexpr size_t kRecords = 26;
  constexpr size_t kChecksum = 34;
  constexpr uint64_t kLinks = 40;  // More than an object header holds.
  const TempFolder folder;
  const std::string path = folder / "many.h5";
  const hid_t file = create_file(path, [](hid_t) {});
  for (uint64_t i = 0; i < kLinks; ++i) {
    H5Lcreate_soft("/", file, ("/tensors/" + std::to_string(i)).c_str(), H5P_DEFAULT, H5P_DEFAULT);
  }
  ASSERT_GE(H5Fclose(file), 0);
  std::string bytes = read_file(path);
  const size_t tree = bytes.find(kTreeOfNames);
  ASSERT_NE(tree, std::string::npos);
  uint64_t found = 0;
  ASSERT_LE(tree + kChecksum + 4, bytes.size());
  std::memcpy(&found, bytes.data() + tree + kRecords, sizeof found);
  ASSERT_EQ(found, kLinks);
  const auto forge = [&](uint64_t links) {
    put(bytes, tree + kRecords, links);
    put(bytes, tree + kChecksum, lookup3(std::string_view(bytes).substr(tree, kChecksum)));
    write_file(path, bytes);
  };
  forge(1'000'001);
  expect_refused(path, {"/tensors holds 1000001 objects", "at most 1000000"});
  forge(uint64_t{1} << 62);
  expect_refused(path, {"/tensors holds 4611686018427387904 objects"});
  // At the limit it is another rule that the links break.
  forge(1'000'000);
  expect_refused(path, {"soft link"});
}

}  // namespace
}  // namespace pare::test
