// Model folders as they are found: types mixed between shards, buffers among the weights, files
// that nobody lists, and weights that are not safetensors.
#include <gtest/gtest.h>

#include "formats/weight_source.h"
#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

class MixedFolderTest : public ::testing::Test {
 protected:
  MixedFolderTest() { write_file(folder_ / "config.json", R"({"model_type": "gpt2"})"); }

  void write_index(const std::string& map) {
    write_file(folder_ / "model.safetensors.index.json",
               R"({"metadata": {"total_size": 1}, "weight_map": {)" + map + "}}");
  }

  std::mt19937 random_{5};
  TempFolder folder_;
};

TEST_F(MixedFolderTest, ShardsOfSeveralTypes) {
  const std::map<std::string, Tensor> first{
      {"a.weight", normal_tensor(random_, DType::kBf16, {4, 6})},
      {"a.bias", normal_tensor(random_, DType::kF32, {4})}};
  const std::map<std::string, Tensor> second{
      {"b.weight", normal_tensor(random_, DType::kF16, {4, 6})},
      {"unlisted.weight", normal_tensor(random_, DType::kF32, {2, 2})}};
  const std::map<std::string, Tensor> third{{"stray", normal_tensor(random_, DType::kF32, {2})}};
  write_tensors(folder_ / "m-1.safetensors", first);
  write_tensors(folder_ / "m-2.safetensors", second);
  write_tensors(folder_ / "consolidated.safetensors", third);  // The index does not name it.
  write_index(R"("a.weight": "m-1.safetensors", "a.bias": "m-1.safetensors",
                 "b.weight": "m-2.safetensors")");
  const auto source = open_weight_source(folder_.path());
  EXPECT_EQ(source->names(),
            (std::vector<std::string>{"a.bias", "a.weight", "b.weight", "unlisted.weight"}));
  for (const auto* shard : {&first, &second}) {
    for (const auto& [name, tensor] : *shard) {
      EXPECT_EQ(source->dtype(name), tensor.dtype) << name;
      EXPECT_TRUE(std::ranges::equal(source->dense(name).bytes, tensor.bytes)) << name;
      EXPECT_EQ(to_f32(source->dense(name), name), to_f32(tensor.view(), name)) << name;
    }
  }
  EXPECT_EQ(source->stored_bytes(), 48 + 16 + 48 + 16);
}

TEST_F(MixedFolderTest, BuffersAreReadableAsTheyAre) {
  std::map<std::string, Tensor> tensors;
  const std::map<std::string, DType> buffers{{"h.0.attn.bias", DType::kBool},
                                             {"h.0.attn.mask", DType::kU8},
                                             {"h.0.rotary_emb.inv_freq", DType::kF32},
                                             {"position_ids", DType::kI64},
                                             {"h.0.scale64", DType::kF64},
                                             {"h.0.codes", DType::kF8E4m3},
                                             {"h.0.codes5", DType::kF8E5m2},
                                             {"h.0.zeros", DType::kI8},
                                             {"h.0.index", DType::kI32},
                                             {"h.0.short", DType::kI16}};
  for (const auto& [name, dtype] : buffers)
    tensors[name] = random_tensor(random_, dtype, {1, 3, 3});
  tensors["h.0.weight"] = normal_tensor(random_, DType::kF32, {3, 3});
  tensors["h.0.attn.masked_bias"] = normal_tensor(random_, DType::kF32, {});
  write_tensors(folder_ / "model.safetensors", tensors);
  const auto source = open_weight_source(folder_.path());
  EXPECT_EQ(source->names().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    EXPECT_EQ(source->dtype(name), tensor.dtype) << name;
    EXPECT_TRUE(std::ranges::equal(source->dense(name).bytes, tensor.bytes)) << name;
    EXPECT_EQ(source->stored_bytes(name), static_cast<int64_t>(tensor.bytes.size())) << name;
    const int64_t count = element_count(tensor.shape);
    EXPECT_EQ(source->dense_part(name, count, 0).bytes.size(), 0U) << name;
    source->release_part(name, 0, count);
  }
  EXPECT_EQ(source->sha256().size(), 64U);
  // As numbers, what is no floating point is refused, not reinterpreted.
  for (const auto& [name, dtype] : buffers) {
    if (dtype == DType::kF32) continue;
    const std::string& shown = name;
    expect_error([&] { to_f32(source->dense(shown), shown); }, ErrorCode::kInputMalformed,
                 {shown, std::string(dtype_name(dtype))});
  }
}

TEST_F(MixedFolderTest, PartsAndPieces) {
  const std::map<std::string, Tensor> tensors{{"w", normal_tensor(random_, DType::kF32, {64, 64})}};
  write_tensors(folder_ / "model.safetensors", tensors);
  const auto source = open_weight_source(folder_.path());
  const std::span<const std::byte> whole = tensors.at("w").bytes;
  EXPECT_TRUE(
      std::ranges::equal(source->dense_part("w", 100, 3000).bytes, whole.subspan(400, 12000)));
  std::vector<std::byte> piece(12000);
  source->read("w", 100, piece);
  EXPECT_TRUE(std::ranges::equal(piece, whole.subspan(400, 12000)));
  source->release_part("w", 100, 3000);
  EXPECT_TRUE(std::ranges::equal(source->dense("w").bytes, whole));
  expect_error([&] { source->dense_part("w", 4000, 97); }, ErrorCode::kInternal, {"\"w\"", "4096"});
  expect_error([&] { source->dense_part("w", 0, INT64_MAX); }, ErrorCode::kInternal, {"\"w\""});
  expect_error([&] { source->dense_part("v", 0, 1); }, ErrorCode::kInputMalformed, {"\"v\""});
}

TEST_F(MixedFolderTest, OtherKindsOfWeightsAreNamed) {
  for (const char* name :
       {"pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json",
        "consolidated.00.pth", "flax_model.msgpack"}) {
    write_file(folder_ / name, "x");
    expect_error([&] { open_weight_source(folder_.path()); }, ErrorCode::kInputMalformed,
                 {folder_ / name, "safetensors"});
    std::filesystem::remove(folder_ / name);
  }
  expect_error([&] { open_weight_source(folder_.path()); }, ErrorCode::kInputMissing,
               {"model.safetensors"});
  // Beside safetensors they do not matter.
  write_file(folder_ / "pytorch_model.bin", "x");
  write_tensors(folder_ / "model.safetensors", {{"w", normal_tensor(random_, DType::kF32, {2})}});
  EXPECT_EQ(open_weight_source(folder_.path())->names(), std::vector<std::string>{"w"});
}

}  // namespace
}  // namespace pare::test
