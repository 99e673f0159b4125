// The factors of an adapter as tensors of the model, and adapters that cannot stand beside it.
#include "formats/beside_source.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "formats/checkpoint_writer.h"
#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

class BesideSourceTest : public ::testing::Test {
 protected:
  BesideSourceTest() {
    model_["model.q.weight"] = normal(DType::kBf16, {7, 10});
    model_["model.q.bias"] = normal(DType::kBf16, {7});
    model_["model.c_attn.weight"] = normal(DType::kF16, {10, 12});  // GPT-2: [in, out].
    model_["model.embed.weight"] = normal(DType::kBf16, {20, 6});
    adapt("model.q", 7, 10);
  }

  Tensor normal(DType dtype, const Shape& shape) { return normal_tensor(random_, dtype, shape); }

  void adapt(const std::string& module, int64_t out, int64_t in) {
    adapter_["base_model.model." + module + ".lora_A.weight"] = normal(DType::kF32, {3, in});
    adapter_["base_model.model." + module + ".lora_B.weight"] = normal(DType::kBf16, {out, 3});
  }

  std::shared_ptr<const WeightSource> base() {
    write_model(folder_, "{}", model_);
    return open_weight_source(folder_.path());
  }
  std::shared_ptr<const LoraAdapter> adapter(
      const std::string& config = R"("r": 3, "lora_alpha": 6)") {
    write_file(lora_ / "adapter_config.json", R"({"peft_type": "LORA", )" + config + "}");
    write_tensors(lora_ / "adapter_model.safetensors", adapter_);
    return std::make_shared<const LoraAdapter>(LoraAdapter::open(lora_.path()));
  }
  std::unique_ptr<WeightSource> beside() { return make_beside_source(base(), adapter()); }

  void expect_refused(const std::vector<std::string>& parts,
                      const std::string& config = R"("r": 3, "lora_alpha": 6)") {
    const auto model = base();
    const auto lora = adapter(config);
    expect_error([&] { make_beside_source(model, lora); }, ErrorCode::kInputMalformed, parts);
  }

  const Tensor& factor(const std::string& name) { return adapter_.at("base_model.model." + name); }

  uint32_t seed_ = std::random_device{}();
  std::mt19937 random_{seed_};
  TempFolder folder_;
  TempFolder lora_;
  std::map<std::string, Tensor> model_;
  std::map<std::string, Tensor> adapter_;
};

constexpr const char* kA = "model.q.lora_A.weight";
constexpr const char* kB = "model.q.lora_B.weight";

TEST_F(BesideSourceTest, HasTheFactorsAsTensorsWithTheScaleInTheSecond) {
  SCOPED_TRACE("seed " + std::to_string(seed_));
  const auto source = beside();
  const std::vector<std::string> expected{
      "model.c_attn.weight", "model.embed.weight", "model.q.bias", kA, kB, "model.q.weight"};
  EXPECT_EQ(source->names(), expected);
  const std::vector<float> a = to_f32(factor(kA).view(), "a");
  std::vector<float> b = to_f32(factor(kB).view(), "b");
  for (float& value : b) value *= 2;
  for (const auto& [name, shape, values] :
       {std::tuple{kA, Shape{3, 10}, a}, std::tuple{kB, Shape{7, 3}, b}}) {
    SCOPED_TRACE(name);
    EXPECT_TRUE(source->contains(name));
    EXPECT_FALSE(source->is_compressed(name));
    EXPECT_EQ(source->dtype(name), DType::kF32);
    EXPECT_EQ(source->shape(name), shape);
    EXPECT_EQ(source->dense(name).shape, shape);
    EXPECT_EQ(source->dense(name).dtype, DType::kF32);
    EXPECT_EQ(to_f32(source->dense(name), name), values);
    EXPECT_EQ(source->stored_bytes(name), static_cast<int64_t>(4 * values.size()));
    EXPECT_EQ(source->file_of(name), lora_ / "adapter_model.safetensors");
  }
  EXPECT_FALSE(source->contains("model.c_attn.lora_A.weight"));
}

TEST_F(BesideSourceTest, LeavesTheModelAsItIs) {
  const auto plain = base();
  const auto source = beside();
  for (const auto& [name, tensor] : model_) {
    SCOPED_TRACE(name);
    EXPECT_TRUE(source->contains(name));
    EXPECT_EQ(source->dtype(name), tensor.dtype);
    EXPECT_EQ(source->shape(name), tensor.shape);
    EXPECT_TRUE(std::ranges::equal(source->dense(name).bytes, tensor.bytes));
    EXPECT_EQ(source->file_of(name), plain->file_of(name));
    EXPECT_EQ(source->stored_bytes(name), plain->stored_bytes(name));
  }
  EXPECT_EQ(source->stored_bytes(), plain->stored_bytes() + 4 * (3 * 10 + 7 * 3));
  EXPECT_EQ(source->config_json(), plain->config_json());
}

TEST_F(BesideSourceTest, GivesPartsOfFactorsAndOfTensors) {
  const auto source = beside();
  const auto check = [&](const std::string& name, int64_t first, int64_t count) {
    const TensorView whole = source->dense(name);
    const size_t size = dtype_size(whole.dtype);
    const auto expected =
        whole.bytes.subspan(static_cast<size_t>(first) * size, static_cast<size_t>(count) * size);
    const TensorView part = source->dense_part(name, first, count);
    EXPECT_EQ(part.shape, Shape{count});
    EXPECT_EQ(part.dtype, whole.dtype);
    EXPECT_TRUE(std::ranges::equal(part.bytes, expected)) << name;
    std::vector<std::byte> bytes(expected.size());
    source->read(name, first, bytes);
    EXPECT_TRUE(std::ranges::equal(bytes, expected)) << name;
    source->release_part(name, first, count);
  };
  check(kA, 4, 9);
  check(kB, 0, 21);
  check(kB, 21, 0);
  check("model.q.weight", 3, 30);
  for (const char* name : {kA, kB}) {
    expect_error([&] { source->dense_part(name, 0, 31); }, ErrorCode::kInternal, {name});
    expect_error([&] { source->dense_part(name, -1, 2); }, ErrorCode::kInternal, {name});
    std::vector<std::byte> bytes(4 * 31);
    expect_error([&] { source->read(name, 0, bytes); }, ErrorCode::kInternal, {name});
  }
}

TEST_F(BesideSourceTest, ReleasingChangesNothing) {
  const auto source = beside();
  source->release(source->names());
  EXPECT_EQ(to_f32(source->dense(kA), kA), to_f32(factor(kA).view(), "a"));
  EXPECT_TRUE(
      std::ranges::equal(source->dense("model.q.weight").bytes, model_["model.q.weight"].bytes));
}

TEST_F(BesideSourceTest, TheDigestCoversBoth) {
  const std::string first = beside()->sha256();
  EXPECT_EQ(beside()->sha256(), first);
  EXPECT_NE(base()->sha256(), first);
  EXPECT_NE(make_beside_source(base(), adapter(R"("r": 3, "lora_alpha": 7)"))->sha256(), first);
  const Tensor kept = adapter_.begin()->second;
  adapter_.begin()->second.bytes[0] ^= std::byte{1};
  EXPECT_NE(beside()->sha256(), first);
  adapter_.begin()->second = kept;
  model_["model.q.bias"].bytes[0] ^= std::byte{1};
  EXPECT_NE(beside()->sha256(), first);
}

TEST_F(BesideSourceTest, FactorsTakeTheNameThatTheModelGives) {
  model_["q.weight"] = model_.at("model.q.weight");
  model_.erase("model.q.weight");
  const auto source = beside();
  EXPECT_TRUE(source->contains("q.lora_A.weight"));
  EXPECT_TRUE(source->contains("q.lora_B.weight"));
  EXPECT_FALSE(source->contains(kA));
}

TEST_F(BesideSourceTest, StandsBesideACompressedWeight) {
  const std::string path = folder_ / "model.h5";
  {
    CheckpointWriter writer(path, test_header(), false);
    writer.write_compressed("model.q.weight",
                            random_weight(random_, WeightFormat::kInt8, 7, 10, kPerChannel, true,
                                          false, ActivationFormat::kBf16, false));
    writer.finish();
  }
  const auto source = make_beside_source(open_weight_source(path), adapter());
  EXPECT_TRUE(source->is_compressed("model.q.weight"));
  EXPECT_FALSE(source->is_compressed(kA));
  EXPECT_EQ(source->compressed("model.q.weight").out_features, 7);
  EXPECT_EQ(to_f32(source->dense(kA), kA), to_f32(factor(kA).view(), "a"));
}

TEST_F(BesideSourceTest, RefusesWhatTheModelDoesNotHave) {
  adapt("model.v", 7, 10);
  expect_refused({"adapter_model.safetensors", "model.v", folder_.path()});
}

TEST_F(BesideSourceTest, RefusesEmbeddings) {
  adapter_["base_model.model.model.embed.lora_embedding_A"] = normal(DType::kF32, {3, 20});
  adapter_["base_model.model.model.embed.lora_embedding_B"] = normal(DType::kF32, {6, 3});
  expect_refused({"adapter_model.safetensors", "model.embed", "merge it"});
}

TEST_F(BesideSourceTest, RefusesDora) {
  adapter_["base_model.model.model.q.lora_magnitude_vector"] = normal(DType::kF32, {7});
  expect_refused({"adapter_model.safetensors", "DoRA", "merge it"},
                 R"("r": 3, "lora_alpha": 6, "use_dora": true)");
}

TEST_F(BesideSourceTest, RefusesWholeTensors) {
  adapter_["base_model.model.model.q.bias"] = normal(DType::kF32, {7});
  expect_refused({"adapter_model.safetensors", "model.q.bias", "merge it"});
}

}  // namespace
}  // namespace pare::test
