// LoRA adapters as PEFT writes them: spellings, ranks and scales, and what can be wrong.
#include "formats/lora_adapter.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

class LoraAdapterTest : public ::testing::Test {
 protected:
  LoraAdapterTest() {
    tensors_["base_model.model.model.layers.0.q_proj.lora_A.weight"] = normal(DType::kF32, {2, 6});
    tensors_["base_model.model.model.layers.0.q_proj.lora_B.weight"] = normal(DType::kF32, {4, 2});
  }

  Tensor normal(DType dtype, const Shape& shape) { return normal_tensor(random_, dtype, shape); }

  LoraAdapter open(const std::string& config = R"("r": 2, "lora_alpha": 3)") {
    write_file(folder_ / "adapter_config.json", R"({"peft_type": "LORA", )" + config + "}");
    write_tensors(folder_ / "adapter_model.safetensors", tensors_);
    return LoraAdapter::open(folder_.path());
  }
  void expect_refused(const std::vector<std::string>& parts,
                      const std::string& config = R"("r": 2, "lora_alpha": 3)",
                      ErrorCode code = ErrorCode::kInputMalformed) {
    expect_error([&] { open(config); }, code, parts);
  }

  std::mt19937 random_{17};
  TempFolder folder_;
  std::map<std::string, Tensor> tensors_;
};

constexpr const char* kQ = "model.layers.0.q_proj";
constexpr const char* kQa = "base_model.model.model.layers.0.q_proj.lora_A.weight";
constexpr const char* kQb = "base_model.model.model.layers.0.q_proj.lora_B.weight";

TEST_F(LoraAdapterTest, FindsFactorsByModule) {
  const LoraAdapter adapter = open();
  EXPECT_EQ(adapter.modules(), std::vector<std::string>{kQ});
  const auto factors = adapter.find(kQ);
  ASSERT_TRUE(factors);
  EXPECT_EQ(factors->rank, 2);
  EXPECT_EQ(factors->in_features, 6);
  EXPECT_EQ(factors->out_features, 4);
  EXPECT_EQ(factors->a, to_f32(tensors_.at(kQa).view(), "a"));
  EXPECT_EQ(factors->b, to_f32(tensors_.at(kQb).view(), "b"));
  EXPECT_EQ(factors->scale, 1.5F);
  EXPECT_TRUE(factors->magnitude.empty());
  EXPECT_FALSE(factors->embedding);
  EXPECT_TRUE(adapter.find("layers.0.q_proj"));
  EXPECT_TRUE(adapter.find("language_model.model.layers.0.q_proj") == std::nullopt);
  EXPECT_FALSE(adapter.find("model.layers.0.k_proj"));
  EXPECT_TRUE(adapter.replacements().empty());
}

TEST_F(LoraAdapterTest, EverySpelling) {
  tensors_.clear();
  tensors_["a.lora_A.weight"] = normal(DType::kF16, {2, 6});
  tensors_["a.lora_B.weight"] = normal(DType::kBf16, {4, 2});
  tensors_["base_model.model.b.lora_A.default.weight"] = normal(DType::kF32, {2, 6});
  tensors_["base_model.model.b.lora_B.default.weight"] = normal(DType::kF32, {4, 2});
  tensors_["base_model.model.wte.lora_embedding_A"] = normal(DType::kF32, {2, 9});
  tensors_["base_model.model.wte.lora_embedding_B.default"] = normal(DType::kF32, {4, 2});
  tensors_["base_model.model.lm_head.modules_to_save.weight"] = normal(DType::kF32, {9, 4});
  tensors_["base_model.model.score.modules_to_save.default.weight"] = normal(DType::kF32, {1});
  tensors_["base_model.model.b.base_layer.bias"] = normal(DType::kF32, {4});
  tensors_["base_model.model.norm.weight"] = normal(DType::kF32, {4});
  const LoraAdapter adapter = open(R"("r": 2, "lora_alpha": 3, "bias": "lora_only")");
  EXPECT_EQ(adapter.modules(), (std::vector<std::string>{"a", "b", "wte"}));
  EXPECT_TRUE(adapter.find("wte")->embedding);
  EXPECT_EQ(adapter.find("wte")->in_features, 9);
  std::vector<std::string> replaced;
  for (const auto& [name, view] : adapter.replacements()) replaced.push_back(name);
  EXPECT_EQ(replaced,
            (std::vector<std::string>{"b.bias", "lm_head.weight", "norm.weight", "score.weight"}));
  EXPECT_EQ(adapter.tensor_of("lm_head.weight"), "base_model.model.lm_head.modules_to_save.weight");
}

TEST_F(LoraAdapterTest, RanksAndScales) {
  EXPECT_EQ(open(R"("r": 2, "lora_alpha": 16)").find(kQ)->scale, 8.0F);
  EXPECT_EQ(open(R"("r": 2, "lora_alpha": 0.5)").find(kQ)->scale, 0.25F);
  EXPECT_EQ(open(R"("r": 2, "lora_alpha": 16, "use_rslora": true)").find(kQ)->scale,
            static_cast<float>(16 / std::sqrt(2.0)));
  // The first pattern that matches counts, in the order of the file, not of the alphabet.
  const char* patterns[] = {R"({"layers.0.q_proj": 2, "k_proj": 5})",
                            R"({"k_proj": 5, "model.layers.0.q_proj": 2})",
                            R"({".*q_proj": 2, "(a|q)_proj": 9})", R"({"q_proj|v_proj": 2})",
                            R"({"layers\\.\\d+\\.q_proj": 2})"};
  for (const char* pattern : patterns) {
    EXPECT_EQ(
        open(std::string(R"("r": 8, "lora_alpha": 8, "rank_pattern": )") + pattern).find(kQ)->scale,
        4.0F)
        << pattern;
  }
  EXPECT_EQ(open(R"("r": 2, "lora_alpha": 8, "alpha_pattern": {"q_proj": 3})").find(kQ)->scale,
            1.5F);
  EXPECT_EQ(
      open(R"("r": 2, "lora_alpha": 8, "alpha_pattern": {"proj": 3, "q": 4})").find(kQ)->scale,
      4.0F);
  expect_refused({kQa, "8", "adapter_config.json"}, R"("r": 8, "lora_alpha": 1)");
  expect_refused({kQa, "4"}, R"("r": 2, "lora_alpha": 1, "rank_pattern": {"q_proj": 4})");
  expect_refused({"\"(\"", "regular expression"},
                 R"("r": 2, "lora_alpha": 1, "rank_pattern": {"(": 2})");
}

TEST_F(LoraAdapterTest, HostilePatternsEnd) {
  tensors_["base_model.model." + std::string(60, 'a') + ".lora_A.weight"] =
      normal(DType::kF32, {2, 6});
  tensors_["base_model.model." + std::string(60, 'a') + ".lora_B.weight"] =
      normal(DType::kF32, {4, 2});
  expect_refused({"too long"}, R"("r": 2, "lora_alpha": 1, "rank_pattern": {"(a+)+[^ab]": 2})");
}

TEST_F(LoraAdapterTest, DoraHasMagnitudes) {
  tensors_["base_model.model.model.layers.0.q_proj.lora_magnitude_vector"] =
      normal(DType::kF32, {4});
  const char* config = R"("r": 2, "lora_alpha": 3, "use_dora": true)";
  EXPECT_EQ(open(config).find(kQ)->magnitude.size(), 4U);
  expect_refused({"lora_magnitude_vector", "use_dora is false"});
  tensors_["base_model.model.model.layers.0.q_proj.lora_magnitude_vector"] =
      normal(DType::kF32, {5});
  expect_refused({"lora_magnitude_vector", "[5]", "[4]"}, config);
  tensors_.erase("base_model.model.model.layers.0.q_proj.lora_magnitude_vector");
  expect_refused({kQa, "lora_magnitude_vector is missing"}, config);
}

TEST_F(LoraAdapterTest, TheDigestCoversBothFiles) {
  const std::string before = open().sha256();
  EXPECT_EQ(before.size(), 64U);
  EXPECT_EQ(open().sha256(), before);
  EXPECT_NE(open(R"("r": 2, "lora_alpha": 4)").sha256(), before);
  tensors_[kQa].bytes[0] ^= std::byte{1};
  EXPECT_NE(open().sha256(), before);
}

TEST_F(LoraAdapterTest, MissingAndForeignFiles) {
  expect_error([&] { LoraAdapter::open(folder_.path()); }, ErrorCode::kInputMissing,
               {folder_.path(), "adapter_config.json"});
  write_file(folder_ / "adapter_config.json", R"({"peft_type": "LORA", "r": 2, "lora_alpha": 3})");
  expect_error([&] { LoraAdapter::open(folder_.path()); }, ErrorCode::kInputMissing,
               {"adapter_model.safetensors"});
  write_file(folder_ / "adapter_model.bin", "x");
  expect_error([&] { LoraAdapter::open(folder_.path()); }, ErrorCode::kInputMalformed,
               {folder_ / "adapter_model.bin", "safetensors"});
}

TEST_F(LoraAdapterTest, OtherMethodsAreRefusedByName) {
  const auto refused = [&](const std::string& config, const std::vector<std::string>& parts) {
    write_file(folder_ / "adapter_config.json", config);
    write_tensors(folder_ / "adapter_model.safetensors", tensors_);
    expect_error([&] { LoraAdapter::open(folder_.path()); }, ErrorCode::kInputMalformed, parts);
  };
  refused(R"({"peft_type": "ADALORA", "r": 2, "lora_alpha": 3})", {"\"ADALORA\""});
  refused(R"({"peft_type": "IA3"})", {"\"IA3\"", "adapter_config.json"});
  refused(R"({"r": 2, "lora_alpha": 3})", {"peft_type is missing"});
  refused("[]", {"adapter_config.json"});
  const std::string usual = R"("r": 2, "lora_alpha": 3, )";
  for (const char* key : {"lora_bias", "use_qalora", "use_bdlora"}) {
    expect_refused({key, "true"}, usual + "\"" + key + "\": true");
    open(usual + "\"" + key + "\": false");
    open(usual + "\"" + key + "\": null");
  }
  expect_refused({"layer_replication"}, usual + R"("layer_replication": [[0, 4], [2, 5]])");
  expect_refused({"target_parameters"}, usual + R"("target_parameters": ["experts.down_proj"])");
  expect_refused({"pissa_niter_4"}, usual + R"("init_lora_weights": "pissa_niter_4")");
  open(usual + R"("init_lora_weights": "gaussian", "target_parameters": [])");
  expect_refused({"bias", "some"}, usual + R"("bias": "some")");
}

TEST_F(LoraAdapterTest, ValuesOfTheConfigAreChecked) {
  for (const char* rank : {"0", "-1", "1.5", "\"2\"", "null", "1e30", "18446744073709551615"}) {
    expect_refused({"r is", "rank"}, std::string(R"("lora_alpha": 3, "r": )") + rank);
  }
  expect_refused({"r is missing"}, R"("lora_alpha": 3)");
  expect_refused({"lora_alpha is missing"}, R"("r": 2)");
  expect_refused({"lora_alpha is \"x\""}, R"("r": 2, "lora_alpha": "x")");
  expect_refused({"rank_pattern"}, R"("r": 2, "lora_alpha": 3, "rank_pattern": [1])");
  expect_refused({"alpha_pattern \"q\""},
                 R"("r": 2, "lora_alpha": 3, "alpha_pattern": {"q": null})");
  expect_refused({"use_dora"}, R"("r": 2, "lora_alpha": 3, "use_dora": 1)");
}

TEST_F(LoraAdapterTest, TensorsAreChecked) {
  const auto good = tensors_;
  const auto damaged = [&](const std::string& name, const Tensor& tensor,
                           const std::vector<std::string>& parts) {
    tensors_ = good;
    tensors_[name] = tensor;
    expect_refused(parts);
  };
  tensors_.erase(kQb);
  expect_refused({kQa, "lora_B is missing", "adapter_model.safetensors"});
  tensors_ = good;
  tensors_.erase(kQa);
  expect_refused({kQb, "lora_A is missing"});
  damaged(kQa, normal(DType::kF32, {3, 6}), {kQa, "[3, 6]", "2"});
  damaged(kQb, normal(DType::kF32, {4, 3}), {kQb, "[4, 3]"});
  damaged(kQa, normal(DType::kF32, {2, 6, 1}), {kQa, "[2, 6, 1]"});
  damaged(kQb, normal(DType::kF32, {0, 2}), {kQb, "[0, 2]"});
  damaged(kQa, random_tensor(random_, DType::kI8, {2, 6}), {"lora_A", "int8"});
  damaged("base_model.model.model.layers.0.q_proj.lora_A.default.weight",
          normal(DType::kF32, {2, 6}), {kQa, "lora_A.default.weight"});
  damaged("base_model.model.model.layers.0.q_proj.lora_B.bias", normal(DType::kF32, {4}),
          {"lora_B.bias", "no kind"});
  damaged("base_model.model.model.layers.0.q_proj.lora_C.weight", normal(DType::kF32, {4}),
          {"lora_C", "no kind"});
  tensors_.clear();
  expect_refused({"no tensors"});
  for (const float bad : {std::nanf(""), HUGE_VALF}) {
    tensors_ = good;
    std::memcpy(tensors_[kQb].bytes.data() + 8, &bad, 4);
    expect_refused({kQb, "NaN", "adapter_model.safetensors"}, R"("r": 2, "lora_alpha": 3)",
                   ErrorCode::kNonFinite);
  }
}

}  // namespace
}  // namespace pare::test
