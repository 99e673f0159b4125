// The HDF5 checkpoint: what goes in comes out, byte for byte, in files that are always the same.
#include <gtest/gtest.h>
#include <hdf5.h>

#include <nlohmann/json.hpp>

#include "core/sha256.h"
#include "formats/checkpoint_reader.h"
#include "formats/safetensors_writer.h"
#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

void expect_equal(const CompressedWeight& found, const CompressedWeight& expected) {
  EXPECT_EQ(found.format, expected.format);
  EXPECT_EQ(found.activation, expected.activation);
  EXPECT_EQ(found.out_features, expected.out_features);
  EXPECT_EQ(found.in_features, expected.in_features);
  EXPECT_EQ(found.group_size, expected.group_size);
  EXPECT_EQ(found.block_rows, expected.block_rows);
  EXPECT_EQ(found.symmetric, expected.symmetric);
  EXPECT_EQ(found.sparse, expected.sparse);
  EXPECT_EQ(found.codes, expected.codes);
  EXPECT_EQ(found.mask_index, expected.mask_index);
  EXPECT_EQ(found.scale, expected.scale);
  EXPECT_EQ(found.global_scale, expected.global_scale);
  EXPECT_EQ(found.zero_point, expected.zero_point);
  EXPECT_EQ(found.input_scale, expected.input_scale);
  EXPECT_EQ(found.pre_quant_scale, expected.pre_quant_scale);
}

int64_t part_bytes(const CompressedWeight& weight) {
  const bool is_static = weight.input_scale != 0;
  return static_cast<int64_t>(weight.codes.size() + weight.mask_index.size() +
                              (is_fp4(weight.format) ? 1 : 4) * weight.scale.size() +
                              (weight.format == WeightFormat::kNvfp4 ? 4 : 0) +
                              weight.zero_point.size() + 4 * weight.pre_quant_scale.size() +
                              (is_static ? 4 : 0));
}

void write_all(const std::string& path, unsigned seed) {
  std::mt19937 random(seed);
  CheckpointWriter writer(path, test_header(), true);
  const Tensor norm = random_tensor(random, DType::kBf16, {40});
  writer.write_dense("model.norm.weight", norm.view());
  for (const auto& [name, weight] : all_schemes(random)) writer.write_compressed(name, weight);
  writer.finish();
}

TEST(Checkpoint, RoundTripsEveryScheme) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const TempFolder folder;
  const auto cases = all_schemes(random);
  CheckpointWriter writer(folder / "a.h5", test_header(), false);
  for (const auto& [name, weight] : cases) writer.write_compressed(name, weight);
  const CheckpointFile file = writer.finish();
  EXPECT_EQ(file.path, folder / "a.h5");
  EXPECT_EQ(file.bytes, static_cast<int64_t>(std::filesystem::file_size(folder / "a.h5")));
  EXPECT_EQ(file.sha256, sha256_file(folder / "a.h5"));
  EXPECT_EQ(folder.entries(), std::vector<std::string>{"a.h5"});

  const auto source = open_weight_source(folder / "a.h5");
  EXPECT_EQ(source->names().size(), cases.size()) << "scales and masks are not listed";
  int64_t total = 0;
  for (const auto& [name, weight] : cases) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(source->is_compressed(name));
    expect_equal(source->compressed(name), weight);
    EXPECT_EQ(source->shape(name), (Shape{weight.out_features, weight.in_features}));
    EXPECT_EQ(source->stored_bytes(name), part_bytes(weight));
    total += part_bytes(weight);
    expect_error([&, &tensor = name] { source->dense(tensor); }, ErrorCode::kInputMalformed,
                 {name, "compressed"});
  }
  EXPECT_EQ(source->stored_bytes(), total);
  EXPECT_FALSE(source->contains("fp8.weight_scale"));
  source->release(source->names());
  expect_equal(source->compressed(cases[0].name), cases[0].weight);
  EXPECT_EQ(source->config_json(), test_header().config_json);
  EXPECT_EQ(source->recipe_json(), test_header().recipe_json);
  EXPECT_EQ(source->text_files(), test_header().text_files);
  EXPECT_GT(verify_hashes(folder / "a.h5"), total);
}

TEST(Checkpoint, RoundTripsEveryElementTypeAndBitPattern) {
  const TempFolder folder;
  std::mt19937 random(3);
  std::map<std::string, Tensor> tensors;
  for (const DType dtype :
       {DType::kF64, DType::kF32, DType::kF16, DType::kBf16, DType::kI64, DType::kI32, DType::kI16,
        DType::kI8, DType::kU8, DType::kF8E4m3, DType::kF8E5m2, DType::kBool}) {
    const std::string name(dtype_name(dtype));
    tensors[name] = random_tensor(random, dtype, {5, 3, 7});
    tensors[name + ".scalar"] = random_tensor(random, dtype, {});
    tensors[name + ".empty"] = random_tensor(random, dtype, {4, 0});
  }
  Tensor patterns{{}, DType::kBf16, {256, 256}};
  for (unsigned i = 0; i < 65536; ++i) {
    patterns.bytes.push_back(static_cast<std::byte>(i & 0xffU));
    patterns.bytes.push_back(static_cast<std::byte>(i >> 8));
  }
  tensors["patterns"] = patterns;
  CheckpointWriter writer(folder / "a.h5", test_header(), false);
  for (const auto& [name, tensor] : tensors) writer.write_dense(name, tensor.view());
  writer.finish();
  const auto source = open_checkpoint(folder / "a.h5");
  for (const auto& [name, tensor] : tensors) {
    const TensorView view = source->dense(name);
    EXPECT_EQ(view.dtype, tensor.dtype) << name;
    EXPECT_EQ(view.shape, tensor.shape) << name;
    EXPECT_TRUE(std::ranges::equal(view.bytes, tensor.bytes)) << name;
    EXPECT_FALSE(source->is_compressed(name));
  }
}

TEST(Checkpoint, SameContentGivesTheSameBytes) {
  const TempFolder folder;
  write_all(folder / "a.h5", 5);
  write_all(folder / "b.h5", 5);
  // Another process, at another time, with other files open.
  EXPECT_EQ(run_child([&] {
              write_all(folder / "warm.h5", 6);
              write_all(folder / "c.h5", 5);
              return 0;
            }),
            0);
  const std::string hash = sha256_file(folder / "a.h5");
  EXPECT_EQ(sha256_file(folder / "b.h5"), hash);
  EXPECT_EQ(sha256_file(folder / "c.h5"), hash);
  EXPECT_NE(sha256_file(folder / "warm.h5"), hash);
  EXPECT_EQ(open_checkpoint(folder / "a.h5")->sha256(), open_checkpoint(folder / "b.h5")->sha256());
}

TEST(Checkpoint, DatasetsAreAlignedAndWhereTheLibrarySays) {
  const TempFolder folder;
  write_all(folder / "a.h5", 11);
  const std::string bytes = read_file(folder / "a.h5");
  const hid_t file = H5Fopen((folder / "a.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  ASSERT_GE(file, 0);
  size_t datasets = 0;
  for (const char* parent : {"tensors", "meta"}) {
    const hid_t group = H5Gopen2(file, parent, H5P_DEFAULT);
    H5G_info_t info;
    H5Gget_info(group, &info);
    for (hsize_t i = 0; i < info.nlinks; ++i) {
      const hid_t dataset = H5Oopen_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, H5P_DEFAULT);
      const haddr_t offset = H5Dget_offset(dataset);
      EXPECT_EQ(offset % 4096, 0U);
      const hsize_t size = H5Dget_storage_size(dataset);
      std::string payload(size, '\0');
      const hid_t type = H5Dget_type(dataset);
      H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, payload.data());
      EXPECT_EQ(payload, bytes.substr(offset, size));
      H5Tclose(type);
      H5Dclose(dataset);
      ++datasets;
    }
    H5Gclose(group);
  }
  EXPECT_GT(datasets, 40U);
  H5Fclose(file);
}

TEST(Checkpoint, TextsOfAnyLengthAreKept) {
  const TempFolder folder;
  CheckpointHeader header = test_header();
  header.config_json = "{\"x\": \"" + std::string(300'000, 'c') + "\"}";
  header.recipe_json = "";
  header.text_files["tokenizer.json"] = std::string(3'000'000, 't');
  header.text_files["empty.txt"] = "";
  CheckpointWriter(folder / "a.h5", header, false).finish();
  const auto source = open_checkpoint(folder / "a.h5");
  EXPECT_EQ(source->config_json(), header.config_json);
  EXPECT_EQ(source->recipe_json(), "");
  EXPECT_EQ(source->text_files(), header.text_files);
  EXPECT_TRUE(source->names().empty());
  header.config_json[3] = '\0';
  expect_error([&] { CheckpointWriter(folder / "b.h5", header, false); },
               ErrorCode::kInputMalformed, {"NUL"});
  EXPECT_EQ(folder.entries(), std::vector<std::string>{"a.h5"});
}

TEST(Checkpoint, VerifyNamesTheTensorThatDiffers) {
  const TempFolder folder;
  write_all(folder / "a.h5", 17);
  std::mt19937 random(17);
  random_tensor(random, DType::kBf16, {40});
  std::string bytes = read_file(folder / "a.h5");
  const auto cases = all_schemes(random);
  const auto& codes = cases[4].weight.codes;  // Long enough to be found by its content.
  const size_t at = bytes.find({reinterpret_cast<const char*>(codes.data()), codes.size()});
  ASSERT_NE(at, std::string::npos);
  bytes[at + 3] = static_cast<char>(bytes[at + 3] ^ 4);
  write_file(folder / "b.h5", bytes);
  open_checkpoint(folder / "b.h5");  // Opening does not read payloads.
  expect_error([&] { verify_hashes(folder / "b.h5"); }, ErrorCode::kInputMalformed,
               {"b.h5", "\"" + cases[4].name + "\"", "SHA-256"});
  EXPECT_GT(verify_hashes(folder / "a.h5"), 0);
}

// The digest says what was evaluated, so that it must be that of the bytes that are there.
TEST(Checkpoint, TheDigestIsRefusedWhenAByteOfAPayloadDiffers) {
  const TempFolder folder;
  std::mt19937 random(29);
  const auto cases = all_schemes(random);
  const WeightCase& last = cases[4];
  CheckpointWriter writer(folder / "a.h5", test_header(), false);
  writer.write_compressed(last.name, last.weight);
  writer.finish();
  EXPECT_EQ(open_checkpoint(folder / "a.h5")->sha256().size(), 64U);
  const std::string whole = read_file(folder / "a.h5");
  const std::string_view codes(reinterpret_cast<const char*>(last.weight.codes.data()),
                               last.weight.codes.size());
  const std::string_view scales(reinterpret_cast<const char*>(last.weight.scale.data()),
                                4 * last.weight.scale.size());
  const std::string module = last.name.substr(0, last.name.size() - 7);
  for (const auto& [payload, name] :
       {std::pair(codes, last.name), std::pair(scales, module + ".weight_scale")}) {
    std::string bytes = whole;
    const size_t at = bytes.find(payload);
    ASSERT_NE(at, std::string::npos);
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    write_file(folder / "b.h5", bytes);
    const auto source = open_checkpoint(folder / "b.h5");
    for (int call = 0; call < 2; ++call) {
      expect_error([&] { source->sha256(); }, ErrorCode::kInputMalformed,
                   {"b.h5", "\"" + name + "\"", "SHA-256"});
    }
  }
}

TEST(Checkpoint, DamagedTextsAreNoticedWhenOpened) {
  const TempFolder folder;
  write_all(folder / "a.h5", 17);
  for (const auto& [text, message] : std::map<std::string, std::string>{
           {"note", "header_sha256"}, {"qformat", "header_sha256"}, {"model", "tokenizer.json"}}) {
    std::string bytes = read_file(folder / "a.h5");
    const size_t at = bytes.find(text);
    ASSERT_NE(at, std::string::npos);
    bytes[at + 2] = 'z';
    write_file(folder / "b.h5", bytes);
    expect_error([&] { open_checkpoint(folder / "b.h5"); }, ErrorCode::kInputMalformed,
                 {"b.h5", message});
  }
}

TEST(Checkpoint, TheDigestOfADenseModelIsThatOfItsSource) {
  const TempFolder folder;
  std::mt19937 random(23);
  const Tensor tensor = random_tensor(random, DType::kBf16, {12, 9});
  std::filesystem::create_directory(folder / "model");
  write_file(folder / "model/config.json", test_header().config_json);
  write_safetensors(folder / "model/model.safetensors", {{"w.weight", tensor.view()}}, {}, false);
  CheckpointWriter writer(folder / "a.h5", test_header(), false);
  writer.write_dense("w.weight", tensor.view());
  writer.finish();
  EXPECT_EQ(open_weight_source(folder / "a.h5")->sha256(),
            open_weight_source(folder / "model")->sha256());
}

TEST(Checkpoint, WriterRefusesWhatReadersWould) {
  const TempFolder folder;
  std::mt19937 random(1);
  const Tensor tensor = random_tensor(random, DType::kF32, {2});
  CheckpointWriter writer(folder / "a.h5", test_header(), false);
  writer.write_dense("a", tensor.view());
  expect_error([&] { writer.write_dense("a", tensor.view()); }, ErrorCode::kWriteFailed,
               {"\"a\"", "before"});
  for (const std::string& name :
       {std::string("x/y"), std::string(".."), std::string("a..b"), std::string(), std::string("."),
        std::string(513, 'n'), std::string("\xff"), std::string("a\0b", 3)}) {
    expect_error([&] { writer.write_dense(name, tensor.view()); }, ErrorCode::kWriteFailed,
                 {"name"});
  }
  auto weight = random_weight(random, WeightFormat::kFp8E4m3, 2, 4, kPerTensor, true, false,
                              ActivationFormat::kBf16, false);
  expect_error([&] { writer.write_compressed("m.bias", weight); }, ErrorCode::kInternal,
               {".weight"});
  weight.scale[0] = -1;
  expect_error([&] { writer.write_compressed("m.weight", weight); }, ErrorCode::kInputMalformed,
               {"m.weight", "weight_scale"});
  // FP4 has scales that one byte holds, in groups of its own size.
  const auto refuse = [&](WeightFormat format, const auto& change, const char* what) {
    auto fp4 = random_weight(random, format, 2, 64,
                             format == WeightFormat::kNvfp4 ? kNvfp4Group : kMxfp4Group, true,
                             false, ActivationFormat::kBf16, false);
    change(fp4);
    expect_error([&] { writer.write_compressed("m.weight", fp4); }, ErrorCode::kInputMalformed,
                 {"m.weight", what});
  };
  for (const WeightFormat format : {WeightFormat::kNvfp4, WeightFormat::kMxfp4}) {
    refuse(
        format, [](CompressedWeight& w) { w.scale[1] = 1.03F; }, "1.03");
    refuse(
        format, [](CompressedWeight& w) { w.scale[1] = 0; }, "weight_scale");
    refuse(
        format, [](CompressedWeight& w) { w.group_size = 8; }, "group size 8");
  }
  refuse(
      WeightFormat::kNvfp4, [](CompressedWeight& w) { w.global_scale = 0; }, "global_scale");
  refuse(
      WeightFormat::kMxfp4, [](CompressedWeight& w) { w.global_scale = 2; }, "nvfp4");
  refuse(
      WeightFormat::kMxfp4, [](CompressedWeight& w) { w.block_rows = 2; }, "weight_scale");
  writer.finish();
  EXPECT_EQ(open_checkpoint(folder / "a.h5")->names(), std::vector<std::string>{"a"});
  expect_error([&] { writer.finish(); }, ErrorCode::kInternal, {"finish"});
  expect_error([&] { writer.write_dense("z", tensor.view()); }, ErrorCode::kInternal, {"finish"});
}

}  // namespace
}  // namespace pare::test
