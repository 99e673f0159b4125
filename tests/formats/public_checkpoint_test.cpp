// pare/checkpoint.h: what goes in comes out, copies are the same bytes, and what no file can hold
// or does not hold is refused by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "formats/quantized_weight.h"
#include "kernels/codec.h"
#include "pare/checkpoint.h"
#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

PlainTensor plain(const Tensor& tensor) {
  return {std::string(dtype_name(tensor.dtype)), tensor.shape, tensor.bytes};
}

CheckpointTexts test_texts() {
  const CheckpointHeader header = test_header();
  return {.architecture = header.architecture,
          .config_json = header.config_json,
          .recipe_json = header.recipe_json,
          .calibration_sha256 = header.calibration_sha256,
          .source_sha256 = header.source_sha256,
          .text_files = header.text_files};
}

/// Every scheme and two dense tensors, names not in the order in which they are stored.
std::vector<WeightCase> write_every_scheme(const std::string& path, std::mt19937& random,
                                           int64_t shard_bytes = int64_t{5} << 30) {
  const auto cases = all_schemes(random);
  CheckpointWriter writer(path, test_header(), false, shard_bytes);
  writer.write_dense("z.first", random_tensor(random, DType::kF32, {3, 5}).view());
  for (auto each = cases.rbegin(); each != cases.rend(); ++each) {
    writer.write_compressed(each->name, each->weight);
  }
  writer.write_dense("a.last", random_tensor(random, DType::kI64, {2, 2}).view());
  writer.finish();
  return cases;
}

TEST(PublicCheckpoint, ShowsWhatIsStored) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const TempFolder folder;
  const auto cases = write_every_scheme(folder / "a.h5", random);
  const Checkpoint checkpoint(folder / "a.h5");
  EXPECT_EQ(checkpoint.texts(), test_texts());
  EXPECT_EQ(checkpoint.format_version(), 2);
  EXPECT_THAT(checkpoint.tool_version(), ::testing::StartsWith("pare "));
  EXPECT_EQ(checkpoint.names().size(), cases.size() + 2);
  EXPECT_EQ(checkpoint.names().front(), "a.last");
  EXPECT_EQ(checkpoint.stored_order().front(), "z.first");
  EXPECT_EQ(checkpoint.stored_order().back(), "a.last");
  for (const auto& [name, weight] : cases) {
    SCOPED_TRACE(name);
    const TensorInfo info = checkpoint.info(name);
    ASSERT_TRUE(info.scheme.has_value());
    EXPECT_EQ(info.shape, (std::vector<int64_t>{weight.out_features, weight.in_features}));
    EXPECT_EQ(info.scheme->group_size, weight.group_size);
    EXPECT_EQ(info.scheme->sparse, weight.sparse);
    EXPECT_EQ(info.scheme->pre_quant_scaled, !weight.pre_quant_scale.empty());
    const QuantizedWeight found = checkpoint.quantized(name);
    EXPECT_EQ(found.scheme, *info.scheme);
    EXPECT_EQ(found.codes, weight.codes);
    EXPECT_EQ(found.scale, weight.scale);
    EXPECT_EQ(found.zero_point, weight.zero_point);
    EXPECT_EQ(found.mask_index, weight.mask_index);
    std::vector<float> expected(static_cast<size_t>(weight.out_features * weight.in_features));
    dequantize_rows(weight, 0, weight.out_features, expected);
    EXPECT_EQ(checkpoint.values(name), expected);
    EXPECT_EQ(dequantize(found, 0, weight.out_features), expected);
    const std::vector<float> last(expected.end() - weight.in_features, expected.end());
    EXPECT_EQ(checkpoint.values(name, weight.out_features - 1, 1), last);
  }
  EXPECT_GT(checkpoint.verify(), 0);
}

TEST(PublicCheckpoint, ACopyIsTheSameBytes) {
  const TempFolder folder;
  std::mt19937 random(3);
  write_every_scheme(folder / "a.h5", random);
  const Checkpoint checkpoint(folder / "a.h5");
  const WrittenCheckpoint written = copy_checkpoint(checkpoint, folder / "b.h5", {});
  EXPECT_EQ(read_file(folder / "b.h5"), read_file(folder / "a.h5"));
  EXPECT_EQ(written.bytes, static_cast<int64_t>(std::filesystem::file_size(folder / "b.h5")));
  expect_error([&] { copy_checkpoint(checkpoint, folder / "b.h5", {}); }, ErrorCode::kWriteFailed,
               {"b.h5"});
  // Onto itself: what is mapped stays readable until the object goes.
  copy_checkpoint(checkpoint, folder / "a.h5", {}, true);
  EXPECT_EQ(read_file(folder / "b.h5"), read_file(folder / "a.h5"));
  // Shards are read as one checkpoint.
  std::mt19937 again(3);
  write_every_scheme(folder / "shards", again, 256);
  copy_checkpoint(Checkpoint(folder / "shards"), folder / "c.h5", {});
  EXPECT_EQ(read_file(folder / "c.h5"), read_file(folder / "a.h5"));
  EXPECT_EQ(folder.entries(), (std::vector<std::string>{"a.h5", "b.h5", "c.h5", "shards"}));
}

TEST(PublicCheckpoint, ReplacesTensorsAndNothingElse) {
  const TempFolder folder;
  std::mt19937 random(5);
  const auto cases = write_every_scheme(folder / "a.h5", random);
  const Checkpoint before(folder / "a.h5");
  // One weight gets the codes that it would have with other scales, one becomes dense.
  const std::string quantized = cases[4].name;
  const std::string dense = cases[0].name;
  QuantizedWeight changed = before.quantized(quantized);
  for (float& scale : changed.scale) scale *= 2;
  PlainTensor values{"float32", before.info(dense).shape, {}};
  const std::vector<float> floats = before.values(dense);
  values.bytes.resize(floats.size() * sizeof(float));
  std::memcpy(values.bytes.data(), floats.data(), values.bytes.size());
  copy_checkpoint(before, folder / "b.h5", {{quantized, changed}, {dense, values}});
  const Checkpoint after(folder / "b.h5");
  EXPECT_EQ(after.texts(), before.texts());
  EXPECT_EQ(after.stored_order(), before.stored_order());
  for (const std::string& name : before.names()) {
    SCOPED_TRACE(name);
    if (name == quantized) {
      EXPECT_EQ(after.quantized(name), changed);
    } else if (name == dense) {
      EXPECT_FALSE(after.info(name).scheme.has_value());
      EXPECT_EQ(after.values(name), floats);
    } else if (before.info(name).scheme) {
      EXPECT_EQ(after.quantized(name), before.quantized(name));
    } else {
      EXPECT_EQ(after.dense(name), before.dense(name));
    }
  }
  after.verify();
}

TEST(PublicCheckpoint, RefusesReplacementsThatDoNotFit) {
  const TempFolder folder;
  std::mt19937 random(7);
  write_every_scheme(folder / "a.h5", random);
  const Checkpoint checkpoint(folder / "a.h5");
  const PlainTensor tensor = plain(random_tensor(random, DType::kF32, {4}));
  expect_error(
      [&] {
        copy_checkpoint(checkpoint, folder / "b.h5", {{"no.such", tensor}});
      },
      ErrorCode::kUsage, {"no.such", "a.h5"});
  expect_error(
      [&] {
        copy_checkpoint(checkpoint, folder / "b.h5", {{"z.first", tensor}});
      },
      ErrorCode::kUsage, {"z.first", "[4]", "[3, 5]"});
  EXPECT_EQ(folder.entries(), std::vector<std::string>{"a.h5"});
}

TEST(PublicCheckpoint, EveryElementTypeBecomesFloat) {
  const TempFolder folder;
  CheckpointOutput output(folder / "a.h5", test_texts());
  const auto add = [&](const std::string& dtype, const std::string& bytes) {
    PlainTensor tensor{dtype, {1}, {}};
    for (const char byte : bytes) tensor.bytes.push_back(static_cast<std::byte>(byte));
    output.write(dtype, tensor);
  };
  // −1.5 in each, or −2, or what an unsigned type has.
  add("float64", std::string("\0\0\0\0\0\0\xf8\xbf", 8));
  add("float32", std::string("\0\0\xc0\xbf", 4));
  add("float16", std::string("\0\xbe", 2));
  add("bfloat16", std::string("\xc0\xbf", 2));
  add("float8_e4m3fn", "\xbc");
  add("float8_e5m2", "\xbe");
  add("int64", "\xfe\xff\xff\xff\xff\xff\xff\xff");
  add("int32", "\xfe\xff\xff\xff");
  add("int16", "\xfe\xff");
  add("int8", "\xfe");
  add("uint8", "\xfe");
  add("bool", "\x01");
  output.write("scalar", PlainTensor{"int8", {}, {std::byte{7}}});
  output.write("empty", PlainTensor{"float32", {3, 0}, {}});
  output.finish();
  const Checkpoint checkpoint(folder / "a.h5");
  for (const char* dtype :
       {"float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"}) {
    EXPECT_EQ(checkpoint.values(dtype), std::vector<float>{-1.5F}) << dtype;
    EXPECT_EQ(checkpoint.info(dtype).dtype, dtype);
  }
  for (const char* dtype : {"int64", "int32", "int16", "int8"}) {
    EXPECT_EQ(checkpoint.values(dtype), std::vector<float>{-2.0F}) << dtype;
  }
  EXPECT_EQ(checkpoint.values("uint8"), std::vector<float>{254});
  EXPECT_EQ(checkpoint.values("bool"), std::vector<float>{1});
  EXPECT_EQ(checkpoint.values("scalar"), std::vector<float>{7});
  EXPECT_TRUE(checkpoint.values("empty").empty());
}

TEST(PublicCheckpoint, NamesAndRowsThatAreNotThereAreUsageErrors) {
  const TempFolder folder;
  write_small_checkpoint(folder / "a.h5");
  const Checkpoint checkpoint(folder / "a.h5");
  expect_error([&] { checkpoint.info("nothing"); }, ErrorCode::kUsage, {"a.h5", "nothing"});
  expect_error([&] { checkpoint.values("nothing"); }, ErrorCode::kUsage, {"nothing"});
  expect_error([&] { checkpoint.dense("m.weight"); }, ErrorCode::kUsage, {"m.weight", "quantized"});
  expect_error([&] { checkpoint.quantized("norm"); }, ErrorCode::kUsage, {"norm", "dense"});
  const int64_t rows = checkpoint.info("m.weight").shape[0];
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  for (const auto& [first, count] : std::vector<std::pair<int64_t, int64_t>>{
           {-1, 1}, {0, rows + 1}, {rows, 1}, {1, kMost}, {kMost, 1}, {0, -1}}) {
    expect_error([&] { checkpoint.values("m.weight", first, count); }, ErrorCode::kUsage,
                 {"m.weight", "rows"});
    const QuantizedWeight weight = checkpoint.quantized("m.weight");
    expect_error([&] { dequantize(weight, first, count, "mine"); }, ErrorCode::kUsage, {"mine"});
  }
  EXPECT_TRUE(checkpoint.values("m.weight", rows, 0).empty());
}

TEST(PublicCheckpoint, FilesThatAreNoneAreRefused) {
  const TempFolder folder;
  expect_error([&] { Checkpoint checkpoint(folder / "none.h5"); }, ErrorCode::kInputMissing,
               {"none.h5"});
  write_small_checkpoint(folder / "a.h5");
  const std::string bytes = read_file(folder / "a.h5");
  for (const size_t size : {size_t{0}, size_t{7}, bytes.size() / 2, bytes.size() - 1}) {
    write_file(folder / "b.h5", bytes.substr(0, size));
    expect_error([&] { Checkpoint checkpoint(folder / "b.h5"); }, ErrorCode::kInputMalformed,
                 {"b.h5"});
  }
  expect_error([&] { Checkpoint checkpoint(folder.path()); }, ErrorCode::kInputMalformed,
               {"index"});
}

TEST(PublicCheckpoint, OutputRefusesWhatNoReaderWouldTake) {
  const TempFolder folder;
  CheckpointTexts texts = test_texts();
  texts.config_json = "not JSON";
  expect_error([&] { CheckpointOutput output(folder / "a.h5", texts); }, ErrorCode::kUsage,
               {"a.h5", "config_json"});
  texts = test_texts();
  texts.recipe_json = std::string("a\0b", 3);
  expect_error([&] { CheckpointOutput output(folder / "a.h5", texts); }, ErrorCode::kUsage,
               {"a.h5", "NUL"});
  {
    CheckpointOutput output(folder / "a.h5", test_texts());
    const auto refuse = [&](const PlainTensor& tensor, const std::string& what) {
      expect_error([&] { output.write("t", tensor); }, ErrorCode::kUsage, {"\"t\"", what});
    };
    const std::vector<std::byte> four(4);
    refuse({"float33", {1}, four}, "float33");
    refuse({"float32", {2}, four}, "[2]");
    refuse({"float32", {-1}, four}, "-1");
    refuse({"float64", {1}, four}, "4 bytes");
    refuse({"uint8", {int64_t{1} << 40, int64_t{1} << 40}, four}, "t");
    refuse({"uint8", std::vector<int64_t>(33, 1), {std::byte{1}}}, "33 dimensions");
    std::mt19937 random(11);
    const QuantizedWeight good = to_public(random_weight(random, WeightFormat::kInt4, 4, 8, 4, true,
                                                         false, ActivationFormat::kBf16, false));
    const auto refuse_weight = [&](const auto& change, const std::string& what) {
      QuantizedWeight weight = good;
      change(weight);
      expect_error([&] { output.write("m.weight", weight); }, ErrorCode::kUsage,
                   {"m.weight", what});
    };
    refuse_weight([](QuantizedWeight& w) { w.scheme.scheme = "int5"; }, "int5");
    refuse_weight([](QuantizedWeight& w) { w.scheme.activation = "int5"; }, "int5");
    refuse_weight([](QuantizedWeight& w) { w.shape = {4}; }, "[out, in]");
    refuse_weight([](QuantizedWeight& w) { w.shape[0] = 5; }, "elements");
    refuse_weight([](QuantizedWeight& w) { w.codes.pop_back(); }, "elements");
    refuse_weight([](QuantizedWeight& w) { w.scale[0] = 0; }, "weight_scale");
    refuse_weight([](QuantizedWeight& w) { w.scheme.pre_quant_scaled = true; }, "pre_quant_scale");
    expect_error([&] { output.write("m.codes", good); }, ErrorCode::kUsage, {".weight"});
    output.write("m.weight", good);
    expect_error([&] { output.write("m.weight", good); }, ErrorCode::kUsage, {"already"});
  }
  EXPECT_TRUE(folder.entries().empty()) << "an output without finish() leaves nothing";
}

}  // namespace
}  // namespace pare::test
