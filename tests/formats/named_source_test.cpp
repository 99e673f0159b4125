// Sources under other names: renamed tensors, parts of fused ones, over dense, decoded and
// compressed bases.
#include "formats/named_source.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "formats/checkpoint_writer.h"
#include "formats/decoding_source.h"
#include "formats/fp8_source.h"
#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

class NamedSourceTest : public ::testing::Test {
 protected:
  NamedSourceTest() {
    tensors_["h.norm.gamma"] = normal_tensor(random_, DType::kF32, {6});
    tensors_["h.experts"] = normal_tensor(random_, DType::kBf16, {3, 4, 6});
    tensors_["head"] = normal_tensor(random_, DType::kF16, {5, 6});
    write_model(folder_, "{}", tensors_);
    base_ = open_weight_source(folder_.path());
  }

  std::span<const std::byte> bytes(const std::string& name, size_t first, size_t count) const {
    return std::span(tensors_.at(name).bytes).subspan(first, count);
  }

  std::mt19937 random_{11};
  TempFolder folder_;
  std::map<std::string, Tensor> tensors_;
  std::shared_ptr<const WeightSource> base_;
};

TEST_F(NamedSourceTest, RenamesAndPassesThrough) {
  const auto source =
      make_named_source(base_, {{"norm.weight", whole_tensor(*base_, "h.norm.gamma")}});
  EXPECT_EQ(source->names(), (std::vector<std::string>{"h.experts", "head", "norm.weight"}));
  EXPECT_TRUE(source->contains("head"));
  EXPECT_FALSE(source->contains("h.norm.gamma"));
  expect_error([&] { source->dense("h.norm.gamma"); }, ErrorCode::kInputMalformed,
               {"h.norm.gamma", "another name"});
  EXPECT_TRUE(std::ranges::equal(source->dense("norm.weight").bytes, bytes("h.norm.gamma", 0, 24)));
  EXPECT_EQ(source->dtype("norm.weight"), DType::kF32);
  EXPECT_EQ(source->dtype("head"), DType::kF16);
  EXPECT_EQ(source->file_of("norm.weight"), folder_ / "model.safetensors");
  EXPECT_EQ(source->stored_bytes("norm.weight"), 24);
  EXPECT_EQ(source->stored_bytes(), base_->stored_bytes());
  EXPECT_EQ(source->sha256(), base_->sha256());
  EXPECT_EQ(source->config_json(), "{}");
  EXPECT_EQ(source->path(), folder_.path());
}

TEST_F(NamedSourceTest, PartsAreViewsOfTheBase) {
  std::map<std::string, StoredTensor> names;
  const StoredTensor experts = whole_tensor(*base_, "h.experts");
  for (int64_t expert = 0; expert < 3; ++expert) {
    const StoredTensor one = index_part(experts, expert);
    names["gate." + std::to_string(expert)] = range_part(one, 0, 1);
    names["up." + std::to_string(expert)] = range_part(one, 1, 4);
  }
  const auto source = make_named_source(base_, names);
  EXPECT_EQ(source->names(), (std::vector<std::string>{"gate.0", "gate.1", "gate.2", "h.norm.gamma",
                                                       "head", "up.0", "up.1", "up.2"}));
  const TensorView up = source->dense("up.1");
  EXPECT_EQ(up.shape, (Shape{3, 6}));
  EXPECT_EQ(source->shape("gate.2"), (Shape{1, 6}));
  EXPECT_TRUE(std::ranges::equal(up.bytes, bytes("h.experts", 48 + 12, 36)));
  EXPECT_EQ(up.bytes.data(), base_->dense("h.experts").bytes.data() + 60);
  EXPECT_TRUE(std::ranges::equal(source->dense_part("up.2", 4, 5).bytes,
                                 bytes("h.experts", 96 + 12 + 8, 10)));
  std::vector<std::byte> copy(6);
  source->read("up.2", 15, copy);
  EXPECT_TRUE(std::ranges::equal(copy, bytes("h.experts", 144 - 6, 6)));
  source->release(source->names());
  source->release_part("up.2", 4, 5);
  EXPECT_TRUE(std::ranges::equal(source->dense("up.1").bytes, bytes("h.experts", 60, 36)));
  EXPECT_EQ(source->stored_bytes("up.1"), 36);
  EXPECT_EQ(source->stored_bytes(), base_->stored_bytes());
  // A part must not reach its neighbours.
  expect_error([&] { source->dense_part("gate.0", 0, 7); }, ErrorCode::kInternal, {"gate.0"});
  std::vector<std::byte> long_copy(14);
  expect_error([&] { source->read("gate.0", 0, long_copy); }, ErrorCode::kInternal, {"gate.0"});
}

TEST_F(NamedSourceTest, OneTensorMayHaveTwoNamesAndAnotherShape) {
  const auto source = make_named_source(
      base_,
      {{"a", whole_tensor(*base_, "head")}, {"b", {"head", 0, {30}}}, {"c", {"head", 29, {}}}});
  EXPECT_EQ(source->dense("a").bytes.data(), source->dense("b").bytes.data());
  EXPECT_EQ(source->dense("b").shape, Shape{30});
  EXPECT_EQ(source->dense("c").bytes.size(), 2U);
}

TEST_F(NamedSourceTest, PartsOfDecodedTensorsAreDecodedAlone) {
  std::uniform_int_distribution<int> code(0, 0x7e);
  Tensor codes{{}, DType::kF8E4m3, {3, 4, 6}};
  for (int i = 0; i < 72; ++i) codes.bytes.push_back(static_cast<std::byte>(code(random_)));
  std::vector<float> scales(12);
  for (float& scale : scales) scale = std::uniform_real_distribution<float>(0.1F, 1)(random_);
  tensors_["h.experts"] = codes;
  tensors_["h.experts_scale_inv"] = float_tensor(DType::kF32, {3, 2, 2}, scales);
  write_model(folder_, "{}", tensors_);
  const std::shared_ptr<const WeightSource> decoded =
      make_fp8_source(open_weight_source(folder_.path()), {3, 4});
  const auto& decoding = dynamic_cast<const DecodingSource&>(*decoded);
  std::map<std::string, StoredTensor> names;
  for (int64_t expert = 0; expert < 3; ++expert) {
    names["e." + std::to_string(expert)] = index_part(whole_tensor(*decoded, "h.experts"), expert);
  }
  const auto source = make_named_source(decoded, names);
  const TensorView first = source->dense("e.0");
  const std::vector<float> one = to_f32(first, "e.0");
  EXPECT_EQ(decoding.decoded_bytes(), 48);
  source->dense("e.2");
  EXPECT_EQ(decoding.decoded_bytes(), 96);
  source->release({"e.2"});
  EXPECT_EQ(decoding.decoded_bytes(), 48);
  EXPECT_EQ(to_f32(first, "e.0"), one);
  source->release({"e.0"});
  EXPECT_EQ(decoding.decoded_bytes(), 0);
  const std::vector<float> whole = to_f32(decoded->dense("h.experts"), "all");
  EXPECT_EQ(to_f32(source->dense("e.1"), "e.1"),
            std::vector<float>(whole.begin() + 24, whole.begin() + 48));
  // Codes and scales together.
  EXPECT_EQ(source->stored_bytes("e.0"), 24 + 16);
  EXPECT_EQ(source->stored_bytes(), decoded->stored_bytes());
  // Parts that do not divide the bytes evenly still add up to all of them.
  std::map<std::string, StoredTensor> odd;
  for (int64_t begin : {0, 1, 24, 37}) {
    const int64_t end = begin == 0 ? 1 : begin == 1 ? 24 : begin == 24 ? 37 : 72;
    odd["p" + std::to_string(begin)] = {"h.experts", begin, {end - begin}};
  }
  EXPECT_EQ(make_named_source(decoded, odd)->stored_bytes(), decoded->stored_bytes());
}

TEST_F(NamedSourceTest, CompressedTensorsAreRenamedWhole) {
  write_small_checkpoint(folder_ / "a.h5");
  const std::shared_ptr<const WeightSource> base = open_weight_source(folder_ / "a.h5");
  const auto source = make_named_source(base, {{"n.weight", whole_tensor(*base, "m.weight")}});
  EXPECT_TRUE(source->is_compressed("n.weight"));
  EXPECT_FALSE(source->is_compressed("norm"));
  EXPECT_EQ(source->compressed("n.weight").codes, base->compressed("m.weight").codes);
  EXPECT_EQ(source->shape("n.weight"), base->shape("m.weight"));
  source->release({"n.weight", "norm"});
  expect_error(
      [&] {
        make_named_source(base, {{"n", {"m.weight", 0, {2, 64}}}});
      },
      ErrorCode::kInputMalformed, {"m.weight", "compressed", "\"n\""});
}

TEST_F(NamedSourceTest, MapsThatDoNotFitAreRefused) {
  const auto refused = [&](const std::map<std::string, StoredTensor>& names,
                           const std::vector<std::string>& parts) {
    expect_error([&] { make_named_source(base_, names); }, ErrorCode::kInputMalformed, parts);
  };
  refused({{"a", {"nobody", 0, {1}}}}, {"nobody"});
  refused({{"a", {"head", 1, {5, 6}}}}, {"\"head\"", "\"a\"", "[5, 6]"});
  refused({{"a", {"head", -1, {1}}}}, {"\"head\""});
  refused({{"a", {"head", 31, {0}}}}, {"\"head\""});
  refused({{"a", {"head", 0, {-1}}}}, {"[-1]"});
  refused({{"a", {"head", 0, {INT64_MAX, 4}}}}, {"not possible"});
  refused({{"head", whole_tensor(*base_, "h.experts")}}, {"\"head\"", "\"h.experts\""});
  const StoredTensor head = whole_tensor(*base_, "head");
  expect_error([&] { index_part(head, 5); }, ErrorCode::kInputMalformed, {"head", "5"});
  expect_error([&] { index_part(head, -1); }, ErrorCode::kInputMalformed, {"head"});
  expect_error([&] { range_part(head, 3, 2); }, ErrorCode::kInputMalformed, {"head"});
  expect_error([&] { range_part(head, 0, 6); }, ErrorCode::kInputMalformed, {"head", "6"});
  expect_error([&] { range_part({"s", 0, {}}, 0, 0); }, ErrorCode::kInputMalformed, {"\"s\""});
  expect_error([&] { whole_tensor(*base_, "nobody"); }, ErrorCode::kInputMalformed, {"nobody"});
}

}  // namespace
}  // namespace pare::test
