// The safetensors reader and writer: round trips, and one hostile file for each rule.
#include "formats/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>

#include "formats/safetensors_writer.h"
#include "tests/formats/test_files.h"
#include "tests/support/reference.h"

namespace pare::test {
namespace {

constexpr DType kAll[] = {DType::kF64, DType::kF32,    DType::kF16,    DType::kBf16,
                          DType::kI64, DType::kI32,    DType::kI16,    DType::kI8,
                          DType::kU8,  DType::kF8E4m3, DType::kF8E5m2, DType::kBool};

std::string with_header(const std::string& header, size_t data_bytes) {
  std::string file(8, '\0');
  for (size_t i = 0; i < 8; ++i) file[i] = static_cast<char>((header.size() >> (8 * i)) & 0xff);
  return file + header + std::string(data_bytes, 'x');
}

TEST(Safetensors, RoundTripsEveryElementType) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const TempFolder folder;
  std::map<std::string, Tensor> tensors;
  for (const DType dtype : kAll) {
    const std::string name(dtype_name(dtype));
    tensors[name] = random_tensor(random, dtype, {3, 5});
    tensors[name + ".scalar"] = random_tensor(random, dtype, {});
    tensors[name + ".empty"] = random_tensor(random, dtype, {0, 7});
  }
  std::map<std::string, TensorView> views;
  for (const auto& [name, tensor] : tensors) views[name] = tensor.view();
  write_safetensors(folder / "a.safetensors", views, {{"format", "pt"}}, false);
  const auto file = SafetensorsFile::open(folder / "a.safetensors");
  EXPECT_EQ(file.names().size(), tensors.size());
  EXPECT_EQ(file.metadata().at("format"), "pt");
  for (const auto& [name, tensor] : tensors) {
    const TensorView& view = file.get(name);
    EXPECT_EQ(view.dtype, tensor.dtype) << name;
    EXPECT_EQ(view.shape, tensor.shape) << name;
    EXPECT_TRUE(std::ranges::equal(view.bytes, tensor.bytes)) << name;
    // Views may be cast: each begins at a multiple of its element.
    EXPECT_EQ(reinterpret_cast<uintptr_t>(view.bytes.data()) % dtype_size(tensor.dtype), 0U);
  }
  file.release("float32");
  EXPECT_TRUE(std::ranges::equal(file.get("float32").bytes, tensors["float32"].bytes));
  expect_error([&] { file.get("nobody"); }, ErrorCode::kInputMalformed, {"nobody"});
  expect_error([&] { write_safetensors(folder / "a.safetensors", views, {}, false); },
               ErrorCode::kWriteFailed, {"--force"});
  EXPECT_EQ(folder.entries(), std::vector<std::string>{"a.safetensors"});
}

TEST(Safetensors, ReadsTheReferenceFiles) {
  const std::string path = testing::reference_dir() + "/golden/llama/golden.safetensors";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no reference data: " << path;
  const auto file = SafetensorsFile::open(path);
  EXPECT_EQ(file.get("input_ids").dtype, DType::kI64);
  EXPECT_EQ(file.get("logits").dtype, DType::kF32);
}

struct Hostile {
  const char* name;
  std::string header;
  size_t data_bytes;
  std::vector<std::string> message;
};

const Hostile kHostile[] = {
    {"truncated",
     R"({"x":{"dtype":"F32","shape":[25],"data_offsets":[0,100]}})",
     90,
     {"tensor \"x\": end offset 100 > data of 90 bytes", "truncated"}},
    {"shape", R"({"x":{"dtype":"F32","shape":[2,3],"data_offsets":[0,20]}})", 20, {"[2, 3]", "24"}},
    {"shape_overflow",
     R"({"x":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0]}})",
     0,
     {"larger than any file"}},
    {"negative", R"({"x":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", 1, {"-1"}},
    {"fraction", R"({"x":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}})", 1, {"1.5"}},
    {"backwards", R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[3,2]}})", 4, {"before"}},
    {"huge_offset",
     R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[18446744073709551615,18446744073709551615]}})",
     4,
     {"2^63"}},
    {"overlap",
     R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
     6,
     {"\"b\"", "overlaps"}},
    {"hole",
     R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[5,9]}})",
     9,
     {"\"b\"", "holes"}},
    {"hole_at_start", R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[1,5]}})", 5, {"holes"}},
    {"trailing", R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 7, {"3 bytes after"}},
    {"dtype", R"({"a":{"dtype":"F4","shape":[4],"data_offsets":[0,4]}})", 4, {"\"F4\""}},
    {"duplicate",
     R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
     1,
     {"\"a\" appears twice"}},
    {"missing_key", R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1, {"\"shape\" is missing"}},
    {"metadata", R"({"__metadata__":{"a":1}})", 0, {"__metadata__"}},
    {"array", R"(["a"])", 0, {"'{'"}},
    {"not_json", R"({"a":)", 0, {"not valid JSON"}},
    {"entry", R"({"a":7})", 0, {"not an object"}},
    {"offsets", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", 1, {"two numbers"}},
    {"deep", "{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}", 0, {"deeper"}},
};

TEST(Safetensors, RefusesHostileHeaders) {
  const TempFolder folder;
  for (const Hostile& hostile : kHostile) {
    SCOPED_TRACE(hostile.name);
    const std::string path = folder / (std::string(hostile.name) + ".safetensors");
    write_file(path, with_header(hostile.header, hostile.data_bytes));
    std::vector<std::string> parts = hostile.message;
    parts.push_back(path);
    expect_error([&] { SafetensorsFile::open(path); }, ErrorCode::kInputMalformed, parts);
  }
}

TEST(Safetensors, RefusesImpossibleHeaderLengths) {
  const TempFolder folder;
  const std::string path = folder / "x.safetensors";
  for (const std::string& content :
       {std::string(), std::string("abc"), std::string(8, '\0'), std::string(8, '\xff') + "{}",
        std::string("\x00\xe1\xf5\x06\0\0\0\0{}", 10), std::string("\x09\0\0\0\0\0\0\0{}", 10)}) {
    write_file(path, content);
    expect_error([&] { SafetensorsFile::open(path); }, ErrorCode::kInputMalformed, {path});
  }
  expect_error([&] { SafetensorsFile::open(folder / "absent"); }, ErrorCode::kInputMissing,
               {"absent"});
  expect_error([&] { SafetensorsFile::open(folder.path()); }, ErrorCode::kInputMissing,
               {"regular file"});
}

TEST(Safetensors, EveryTruncationIsAnError) {
  const TempFolder folder;
  const std::string path = folder / "x.safetensors";
  const std::string whole =
      with_header(R"({"x":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}})", 9);
  for (size_t length = 0; length < whole.size(); ++length) {
    write_file(path, whole.substr(0, length));
    expect_error([&] { SafetensorsFile::open(path); }, ErrorCode::kInputMalformed, {path});
  }
  write_file(path, whole);
  EXPECT_EQ(SafetensorsFile::open(path).get("x").bytes.size(), 9U);
}

TEST(Safetensors, RandomDamageNeverCrashes) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const TempFolder folder;
  const std::string path = folder / "x.safetensors";
  const std::string whole = with_header(
      R"({"x":{"dtype":"U8","shape":[3,3],"data_offsets":[0,9]},"y":{"dtype":"F32","shape":[2],"data_offsets":[9,17]}})",
      17);
  int refused = 0;
  for (int i = 0; i < 500; ++i) {
    std::string damaged = whole;
    for (int k = 0; k < 2; ++k) damaged[random() % 120] = static_cast<char>(random());
    write_file(path, damaged);
    try {
      const auto file = SafetensorsFile::open(path);
      for (const std::string& name : file.names()) {
        ASSERT_EQ(file.get(name).bytes.size(),
                  static_cast<size_t>(element_count(file.get(name).shape)) *
                      dtype_size(file.get(name).dtype));
      }
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ErrorCode::kInputMalformed) << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 250);
}

}  // namespace
}  // namespace pare::test
