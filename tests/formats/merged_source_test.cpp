// Merged adapters against the formulas in double precision, and what does not fit together.
#include "formats/merged_source.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "formats/decoding_source.h"
#include "formats/fp8_source.h"
#include "formats/named_source.h"
#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

using Matrix = std::vector<double>;  // Row-major.

class MergedSourceTest : public ::testing::Test {
 protected:
  MergedSourceTest() {
    model_["model.q.weight"] = normal(DType::kBf16, {7, 10});
    model_["model.q.bias"] = normal(DType::kBf16, {7});
    model_["model.k.weight"] = normal(DType::kF32, {8, 10});
    model_["model.c_attn.weight"] = normal(DType::kF16, {10, 12});  // GPT-2: [in, out].
    model_["model.embed.weight"] = normal(DType::kBf16, {20, 6});
    model_["lm_head.weight"] = normal(DType::kBf16, {20, 6});
  }

  Tensor normal(DType dtype, const Shape& shape) { return normal_tensor(random_, dtype, shape); }

  void adapt(const std::string& module, int64_t out, int64_t in, int64_t rank = 3) {
    adapter_["base_model.model." + module + ".lora_A.weight"] = normal(DType::kF32, {rank, in});
    adapter_["base_model.model." + module + ".lora_B.weight"] = normal(DType::kF32, {out, rank});
  }

  std::shared_ptr<const WeightSource> base() {
    write_model(folder_, "{}", model_);
    return open_weight_source(folder_.path());
  }
  std::shared_ptr<const LoraAdapter> adapter(
      const std::string& config = R"("r": 3, "lora_alpha": 2)") {
    write_file(lora_ / "adapter_config.json", R"({"peft_type": "LORA", )" + config + "}");
    write_tensors(lora_ / "adapter_model.safetensors", adapter_);
    return std::make_shared<const LoraAdapter>(LoraAdapter::open(lora_.path()));
  }
  std::unique_ptr<WeightSource> merge(const std::string& config = R"("r": 3, "lora_alpha": 2)") {
    return make_merged_source(base(), adapter(config));
  }
  void expect_refused(const std::vector<std::string>& parts) {
    const auto model = base();
    const auto lora = adapter();
    expect_error([&] { make_merged_source(model, lora); }, ErrorCode::kInputMalformed, parts);
  }

  /// W + scale·B·A as [out, in], or [in, out] when `stored_in_out`.
  static Matrix merged(const Tensor& weight, const Tensor& a, const Tensor& b, double scale,
                       bool stored_in_out) {
    const std::vector<float> w = to_f32(weight.view(), "w");
    const std::vector<float> left = to_f32(b.view(), "b");
    const std::vector<float> right = to_f32(a.view(), "a");
    const int64_t rank = a.shape[0];
    const int64_t in = a.shape[1];
    const int64_t out = b.shape[0];
    Matrix result(w.begin(), w.end());
    for (int64_t o = 0; o < out; ++o) {
      for (int64_t i = 0; i < in; ++i) {
        double sum = 0;
        for (int64_t k = 0; k < rank; ++k) {
          sum += static_cast<double>(left[static_cast<size_t>(o * rank + k)]) *
                 static_cast<double>(right[static_cast<size_t>(k * in + i)]);
        }
        result[static_cast<size_t>(stored_in_out ? i * out + o : o * in + i)] += scale * sum;
      }
    }
    return result;
  }

  /// Half a step of the stored type, of 8 or 11 significant bits, and FP32's error in the sums.
  static void expect_close(const TensorView& view, const Matrix& expected) {
    const double step = view.dtype == DType::kF32    ? 0
                        : view.dtype == DType::kBf16 ? std::ldexp(1, -8)
                                                     : std::ldexp(1, -11);
    const std::vector<float> values = to_f32(view, "merged");
    ASSERT_EQ(values.size(), expected.size());
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_NEAR(static_cast<double>(values[i]), expected[i], step * std::abs(expected[i]) + 1e-5)
          << i;
    }
  }

  const Tensor& a(const std::string& module) {
    return adapter_.at("base_model.model." + module + ".lora_A.weight");
  }
  const Tensor& b(const std::string& module) {
    return adapter_.at("base_model.model." + module + ".lora_B.weight");
  }

  uint32_t seed_ = std::random_device{}();
  std::mt19937 random_{seed_};
  TempFolder folder_;
  TempFolder lora_;
  std::map<std::string, Tensor> model_;
  std::map<std::string, Tensor> adapter_;
};

TEST_F(MergedSourceTest, AddsTheProductInEveryType) {
  SCOPED_TRACE("seed " + std::to_string(seed_));
  adapt("model.q", 7, 10);
  adapt("model.k", 8, 10);
  adapt("model.c_attn", 12, 10);
  const auto source = merge();
  EXPECT_EQ(source->names(), base()->names());
  for (const char* module : {"model.q", "model.k", "model.c_attn"}) {
    SCOPED_TRACE(module);
    const std::string name = std::string(module) + ".weight";
    const bool in_out = std::string(module) == "model.c_attn";
    EXPECT_EQ(source->dtype(name), model_.at(name).dtype);
    EXPECT_EQ(source->shape(name), model_.at(name).shape);
    expect_close(source->dense(name),
                 merged(model_.at(name), a(module), b(module), 2.0 / 3.0, in_out));
  }
  EXPECT_TRUE(
      std::ranges::equal(source->dense("model.q.bias").bytes, model_.at("model.q.bias").bytes));
}

TEST_F(MergedSourceTest, ExactWhereTheSumsAreExact) {
  // Small integers: no rounding in FP32, one to BF16.
  std::vector<float> w(8);
  std::vector<float> left{1, 2, -3, 4};
  std::vector<float> right{5, -6, 7, 8};
  for (size_t i = 0; i < 8; ++i) w[i] = static_cast<float>(100 * i + 1);
  model_["model.q.weight"] = float_tensor(DType::kBf16, {2, 4}, w);
  adapter_["model.q.lora_A.weight"] = float_tensor(DType::kF32, {1, 4}, right);
  adapter_["model.q.lora_B.weight"] = float_tensor(DType::kF32, {2, 1}, {left[1], left[2]});
  const auto source = merge(R"("r": 1, "lora_alpha": 32)");
  const std::vector<float> values = to_f32(source->dense("model.q.weight"), "q");
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(values[i], round_to_bf16(round_to_bf16(w[i]) + 32 * left[1 + i / 4] * right[i % 4]));
  }
}

TEST_F(MergedSourceTest, SquareWeightsFollowTheFlag) {
  SCOPED_TRACE("seed " + std::to_string(seed_));
  model_["model.q.weight"] = normal(DType::kF32, {6, 6});
  adapt("model.q", 6, 6);
  expect_close(merge()->dense("model.q.weight"),
               merged(model_.at("model.q.weight"), a("model.q"), b("model.q"), 2.0 / 3.0, false));
  expect_close(merge(R"("r": 3, "lora_alpha": 2, "fan_in_fan_out": true)")->dense("model.q.weight"),
               merged(model_.at("model.q.weight"), a("model.q"), b("model.q"), 2.0 / 3.0, true));
}

TEST_F(MergedSourceTest, Embeddings) {
  SCOPED_TRACE("seed " + std::to_string(seed_));
  const Tensor left = normal(DType::kF32, {3, 20});
  const Tensor right = normal(DType::kF32, {6, 3});
  adapter_["base_model.model.model.embed.lora_embedding_A"] = left;
  adapter_["base_model.model.model.embed.lora_embedding_B"] = right;
  expect_close(merge()->dense("model.embed.weight"),
               merged(model_.at("model.embed.weight"), left, right, 2.0 / 3.0, true));
  // PEFT saves the embedding itself beside the factors when it is a target.
  adapter_["base_model.model.model.embed.base_layer.weight"] = normal(DType::kF32, {20, 6});
  expect_close(merge()->dense("model.embed.weight"),
               merged(adapter_.at("base_model.model.model.embed.base_layer.weight"), left, right,
                      2.0 / 3.0, true));
}

TEST_F(MergedSourceTest, DoraScalesEveryOutputToItsMagnitude) {
  SCOPED_TRACE("seed " + std::to_string(seed_));
  for (const bool in_out : {false, true}) {
    adapter_.clear();
    const std::string module = in_out ? "model.c_attn" : "model.k";
    const std::string name = module + ".weight";
    const size_t out = in_out ? 12 : 8;
    adapt(module, static_cast<int64_t>(out), 10);
    const Tensor magnitude = normal(DType::kF32, {static_cast<int64_t>(out)});
    adapter_["base_model.model." + module + ".lora_magnitude_vector"] = magnitude;
    const auto source = merge(R"("r": 3, "lora_alpha": 2, "use_dora": true)");
    Matrix expected = merged(model_.at(name), a(module), b(module), 2.0 / 3.0, in_out);
    const std::vector<float> m = to_f32(magnitude.view(), "m");
    for (size_t o = 0; o < out; ++o) {
      const auto at = [&](size_t i) { return in_out ? i * out + o : o * 10 + i; };
      double square = 0;
      for (size_t i = 0; i < 10; ++i) square += expected[at(i)] * expected[at(i)];
      for (size_t i = 0; i < 10; ++i) {
        expected[at(i)] *= static_cast<double>(m[o]) / std::sqrt(square);
      }
    }
    expect_close(source->dense(name), expected);
    // A part needs the norms of whole features.
    const std::vector<float> whole = to_f32(source->dense(name), name);
    EXPECT_EQ(to_f32(source->dense_part(name, 33, 14), name),
              std::vector<float>(whole.begin() + 33, whole.begin() + 47));
  }
}

TEST_F(MergedSourceTest, WholeTensorsReplaceAndKeepTheModelsType) {
  adapter_["base_model.model.lm_head.modules_to_save.weight"] = normal(DType::kF32, {20, 6});
  adapter_["base_model.model.model.q.base_layer.bias"] = normal(DType::kF32, {7});
  const auto source = merge();
  EXPECT_EQ(source->dtype("lm_head.weight"), DType::kBf16);
  const auto rounded = [&](const std::string& name) {
    std::vector<float> values = to_f32(adapter_.at(name).view(), name);
    for (float& value : values) value = round_to_bf16(value);
    return values;
  };
  EXPECT_EQ(to_f32(source->dense("lm_head.weight"), "head"),
            rounded("base_model.model.lm_head.modules_to_save.weight"));
  EXPECT_EQ(to_f32(source->dense("model.q.bias"), "bias"),
            rounded("base_model.model.model.q.base_layer.bias"));
}

TEST_F(MergedSourceTest, PartsAndReleases) {
  SCOPED_TRACE("seed " + std::to_string(seed_));
  adapt("model.q", 7, 10);
  adapt("model.c_attn", 12, 10);
  const auto source = merge();
  const auto& decoding = dynamic_cast<const DecodingSource&>(*source);
  for (const char* name : {"model.q.weight", "model.c_attn.weight", "model.k.weight"}) {
    const std::vector<float> whole = to_f32(source->dense(name), name);
    const auto total = static_cast<int64_t>(whole.size());
    for (int trial = 0; trial < 40; ++trial) {
      const int64_t first = std::uniform_int_distribution<int64_t>(0, total)(random_);
      const int64_t count = std::uniform_int_distribution<int64_t>(0, total - first)(random_);
      EXPECT_EQ(to_f32(source->dense_part(name, first, count), name),
                std::vector<float>(whole.begin() + first, whole.begin() + first + count));
    }
    source->release({name});
    EXPECT_EQ(decoding.decoded_bytes(), 0);
  }
}

TEST_F(MergedSourceTest, TheBaseIsLeftAlone) {
  adapt("model.q", 7, 10);
  Tensor codes{{}, DType::kF8E4m3, {7, 10}};
  codes.bytes.assign(70, std::byte{0x38});  // 1
  model_["model.q.weight"] = codes;
  model_["model.q.weight_scale_inv"] = float_tensor(DType::kF32, {1, 1}, {0.5F});
  const std::shared_ptr<const WeightSource> fp8 = make_fp8_source(base(), {128, 128});
  const auto source = make_merged_source(fp8, adapter());
  const TensorView before = fp8->dense("model.q.weight");
  const Tensor halves = float_tensor(DType::kBf16, {7, 10}, std::vector<float>(70, 0.5F));
  expect_close(source->dense("model.q.weight"),
               merged(halves, a("model.q"), b("model.q"), 2.0 / 3.0, false));
  source->release({"model.q.weight"});
  EXPECT_TRUE(std::ranges::equal(before.bytes, halves.bytes));
  EXPECT_EQ(dynamic_cast<const DecodingSource&>(*fp8).decoded_bytes(), 140);
}

TEST_F(MergedSourceTest, NamesMayDifferByThePrefix) {
  adapt("transformer.h.0.q", 7, 10);
  model_["h.0.q.weight"] = normal(DType::kF32, {7, 10});
  const auto source = merge();
  expect_close(source->dense("h.0.q.weight"),
               merged(model_.at("h.0.q.weight"), a("transformer.h.0.q"), b("transformer.h.0.q"),
                      2.0 / 3.0, false));
}

TEST_F(MergedSourceTest, TheDigestCoversBaseAndAdapter) {
  adapt("model.q", 7, 10);
  const std::string before = merge()->sha256();
  EXPECT_NE(before, base()->sha256());
  EXPECT_EQ(merge()->sha256(), before);
  EXPECT_NE(merge(R"("r": 3, "lora_alpha": 4)")->sha256(), before);
  model_["model.q.bias"].bytes[0] ^= std::byte{1};
  EXPECT_NE(merge()->sha256(), before);
}

TEST_F(MergedSourceTest, WhatDoesNotFitIsNamed) {
  const std::string lora = "adapter_model.safetensors";
  adapt("model.v", 7, 10);
  expect_refused({lora, "model.v.lora_A.weight", folder_.path(), "matches no tensor"});
  adapter_.clear();
  adapt("model.q", 7, 11);
  expect_refused({lora, "model.q.lora_A.weight", "\"model.q.weight\"", "[7, 10]", "11"});
  adapter_.clear();
  adapter_["base_model.model.lm_head.modules_to_save.weight"] = normal(DType::kF32, {21, 6});
  expect_refused({lora, "modules_to_save", "[21, 6]", "[20, 6]"});
  adapter_.clear();
  adapter_["base_model.model.score.weight"] = normal(DType::kF32, {2, 6});
  expect_refused({lora, "base_model.model.score.weight", "matches no tensor"});
  adapter_.clear();
  adapt("model.q", 7, 10);
  model_["model.q.weight"] = random_tensor(random_, DType::kI8, {7, 10});
  expect_refused({lora, "model.q.lora_A.weight", "int8"});
}

TEST_F(MergedSourceTest, CompressedWeightsKeepTheirAdapterBeside) {
  write_small_checkpoint(folder_ / "a.h5");
  adapter_.clear();
  adapt("m", 4, 64);
  const std::shared_ptr<const WeightSource> compressed = open_weight_source(folder_ / "a.h5");
  const auto lora = adapter();
  expect_error([&] { make_merged_source(compressed, lora); }, ErrorCode::kInputMalformed,
               {"m.lora_A.weight", "\"m.weight\"", "compressed", "beside"});
}

TEST_F(MergedSourceTest, WeightsThatAreNotFiniteAreNamed) {
  adapt("model.q", 7, 10);
  const uint16_t infinity = 0x7f80;
  std::memcpy(model_["model.q.weight"].bytes.data() + 20, &infinity, 2);
  const auto source = merge();
  expect_error([&] { source->dense("model.q.weight"); }, ErrorCode::kNonFinite,
               {"\"model.q.weight\"", "adapter_model.safetensors"});
  EXPECT_EQ(source->dense_part("model.q.weight", 20, 50).shape, Shape{50});
}

}  // namespace
}  // namespace pare::test
