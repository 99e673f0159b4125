// MXFP4 experts: values, order and orientation against the plain definition, and what can be wrong.
#include "formats/mxfp4_source.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "formats/decoding_source.h"
#include "formats/weight_source.h"
#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

constexpr const char* kConfig =
    R"({"model_type": "gpt_oss", "quantization_config": {"quant_method": "mxfp4"}})";
constexpr const char* kName = "m.experts.gate_up_proj";

/// E2M1 by its definition: (-1)^s · 2^(e - 1) · (1 + m / 2), or m / 2 where e is 0.
double e2m1_value(unsigned code) {
  const int exponent = (code >> 1) & 3;
  const int mantissa = code & 1;
  const double magnitude = exponent == 0 ? mantissa * 0.5 : std::ldexp(2 + mantissa, exponent - 2);
  return (code & 8U) != 0 ? -magnitude : magnitude;
}

class Mxfp4SourceTest : public ::testing::Test {
 protected:
  Mxfp4SourceTest() {
    add(kName, 3, 70, 2);  // More rows than a tile, and not a multiple of it.
    add("m.experts.down_proj", 3, 5, 1);
    tensors_["m.experts.down_proj_bias"] = normal_tensor(random_, DType::kBf16, {3, 5});
  }

  void add(const std::string& name, int64_t experts, int64_t rows, int64_t groups) {
    tensors_[name + "_blocks"] = random_tensor(random_, DType::kU8, {experts, rows, groups, 16});
    Tensor scales{{}, DType::kU8, {experts, rows, groups}};
    std::uniform_int_distribution<int> exponent(0, 251);  // All that stay finite with any code.
    for (int64_t i = 0; i < experts * rows * groups; ++i) {
      scales.bytes.push_back(static_cast<std::byte>(exponent(random_)));
    }
    tensors_[name + "_scales"] = scales;
  }

  std::unique_ptr<WeightSource> open(const std::string& config = kConfig) {
    write_model(folder_, config, tensors_);
    return open_weight_source(folder_.path());
  }

  /// Element (expert, input, output) of the dense tensor.
  double expected(const std::string& name, int64_t expert, int64_t in, int64_t out) {
    const Tensor& blocks = tensors_.at(name + "_blocks");
    const int64_t group = (expert * blocks.shape[1] + out) * blocks.shape[2] + in / 32;
    const auto byte =
        static_cast<unsigned>(blocks.bytes[static_cast<size_t>(group * 16 + in % 32 / 2)]);
    const unsigned code = in % 2 == 0 ? byte & 15U : byte >> 4;
    const auto scale =
        static_cast<int>(tensors_.at(name + "_scales").bytes[static_cast<size_t>(group)]);
    return std::ldexp(e2m1_value(code), scale - 127);
  }

  uint32_t seed_ = std::random_device{}();
  std::mt19937 random_{seed_};
  TempFolder folder_;
  std::map<std::string, Tensor> tensors_;
};

TEST_F(Mxfp4SourceTest, DecodesExactlyInTheLayoutOfTheDenseModel) {
  SCOPED_TRACE("seed " + std::to_string(seed_));
  const auto source = open();
  EXPECT_EQ(source->names(),
            (std::vector<std::string>{"m.experts.down_proj", "m.experts.down_proj_bias", kName}));
  const TensorView view = source->dense(kName);
  EXPECT_EQ(view.dtype, DType::kBf16);
  EXPECT_EQ(source->dtype(kName), DType::kBf16);
  EXPECT_EQ(view.shape, (Shape{3, 64, 70}));
  EXPECT_EQ(source->shape("m.experts.down_proj"), (Shape{3, 32, 5}));
  const std::vector<float> values = to_f32(view, kName);
  for (int64_t expert = 0; expert < 3; ++expert) {
    for (int64_t in = 0; in < 64; ++in) {
      for (int64_t out = 0; out < 70; ++out) {
        const auto at = static_cast<size_t>((expert * 64 + in) * 70 + out);
        ASSERT_EQ(static_cast<double>(values[at]), expected(kName, expert, in, out))
            << expert << " " << in << " " << out;
      }
    }
  }
}

TEST_F(Mxfp4SourceTest, PartsAreThoseOfTheWhole) {
  SCOPED_TRACE("seed " + std::to_string(seed_));
  const auto source = open();
  const std::vector<float> whole = to_f32(source->dense(kName), kName);
  const auto total = static_cast<int64_t>(whole.size());
  for (int trial = 0; trial < 100; ++trial) {
    const int64_t first = std::uniform_int_distribution<int64_t>(0, total)(random_);
    const int64_t count = std::uniform_int_distribution<int64_t>(0, total - first)(random_);
    const std::vector<float> part(whole.begin() + first, whole.begin() + first + count);
    EXPECT_EQ(to_f32(source->dense_part(kName, first, count), kName), part)
        << first << " " << count;
    source->release_part(kName, first, count);
  }
}

TEST_F(Mxfp4SourceTest, OneExpertAtATime) {
  write_model(folder_, "{}", tensors_);
  const auto source = make_mxfp4_source(open_weight_source(folder_.path()));
  const auto& decoding = dynamic_cast<const DecodingSource&>(*source);
  for (int64_t expert = 0; expert < 3; ++expert) {
    source->dense_part(kName, expert * 64 * 70, 64 * 70);
    EXPECT_EQ(decoding.decoded_bytes(), 2 * 64 * 70);
    source->release_part(kName, expert * 64 * 70, 64 * 70);
    EXPECT_EQ(decoding.decoded_bytes(), 0);
  }
  // What is wrong in one expert does not concern the others.
  tensors_[std::string(kName) + "_scales"].bytes[0] = std::byte{255};
  const auto damaged = open();
  EXPECT_EQ(damaged->dense_part(kName, 64 * 70, 64 * 70).shape, Shape{64 * 70});
  expect_error([&] { damaged->dense_part(kName, 0, 64 * 70); }, ErrorCode::kNonFinite, {kName});
}

TEST_F(Mxfp4SourceTest, BytesAndConfig) {
  const auto source = open();
  EXPECT_EQ(source->stored_bytes(kName), 3 * 70 * 2 * 17);
  EXPECT_EQ(source->stored_bytes("m.experts.down_proj_bias"), 30);
  EXPECT_EQ(source->stored_bytes(), 3 * 70 * 2 * 17 + 3 * 5 * 17 + 30);
  EXPECT_TRUE(source->contains(kName));
  EXPECT_FALSE(source->contains(std::string(kName) + "_blocks"));
  EXPECT_FALSE(source->contains(std::string(kName) + "_scales"));
  EXPECT_EQ(source->file_of(kName), folder_ / "model.safetensors");
  EXPECT_FALSE(nlohmann::json::parse(source->config_json()).contains("quantization_config"));
  expect_error([&] { source->compressed(kName); }, ErrorCode::kInputMalformed, {kName});
  expect_error([&] { source->dense("nobody"); }, ErrorCode::kInputMalformed, {"nobody"});
}

TEST_F(Mxfp4SourceTest, BlocksAndScalesBelongTogether) {
  const auto good = tensors_;
  const std::string blocks = std::string(kName) + "_blocks";
  const std::string scales = std::string(kName) + "_scales";
  const auto expect_refused = [&](const std::vector<std::string>& parts) {
    expect_error([&] { open(); }, ErrorCode::kInputMalformed, parts);
    tensors_ = good;
  };
  tensors_.erase(scales);
  expect_refused({blocks, scales});
  tensors_.erase(blocks);
  expect_refused({blocks, scales});
  tensors_[scales] = random_tensor(random_, DType::kU8, {3, 70});
  expect_refused({blocks, scales, "[3, 70]"});
  tensors_[scales] = random_tensor(random_, DType::kBf16, {3, 70, 2});
  expect_refused({blocks, scales});
  tensors_[blocks] = random_tensor(random_, DType::kU8, {3, 70, 2, 8});
  expect_refused({blocks, scales, "[3, 70, 2, 8]"});
  tensors_[blocks] = random_tensor(random_, DType::kU8, {3, 70, 32});
  expect_refused({blocks, scales, "[3, 70, 32]"});
  tensors_[blocks] = random_tensor(random_, DType::kU8, {0, 70, 2, 16});
  tensors_[scales] = random_tensor(random_, DType::kU8, {0, 70, 2});
  expect_refused({blocks, scales, "[0, 70, 2, 16]"});
  tensors_[kName] = normal_tensor(random_, DType::kBf16, {3, 64, 70});
  expect_refused({blocks, std::string("\"") + kName + "\" itself"});
}

TEST_F(Mxfp4SourceTest, NumbersThatAreNotFiniteAreNamed) {
  const auto good = tensors_;
  tensors_["m.experts.down_proj_scales"].bytes[4] = std::byte{255};
  expect_error([&] { open()->dense("m.experts.down_proj"); }, ErrorCode::kNonFinite,
               {"m.experts.down_proj", "_scales", "NaN"});
  tensors_ = good;
  tensors_["m.experts.down_proj_scales"].bytes[4] = std::byte{254};
  tensors_["m.experts.down_proj_blocks"].bytes[4 * 16 + 3] = std::byte{0x72};  // 6 · 2^127
  expect_error([&] { open()->dense("m.experts.down_proj"); }, ErrorCode::kNonFinite,
               {"m.experts.down_proj", "bfloat16"});
}

}  // namespace
}  // namespace pare::test
