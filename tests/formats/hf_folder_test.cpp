// Hugging Face folders: single files, shards, and everything that an index can get wrong.
#include <gtest/gtest.h>

#include "formats/safetensors_writer.h"
#include "formats/weight_source.h"
#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

class HfFolderTest : public ::testing::Test {
 protected:
  HfFolderTest() {
    write_file(folder_ / "config.json", R"({"model_type": "llama"})");
    for (const char* name : {"a.weight", "b.weight", "c.weight"}) {
      tensors_[name] = random_tensor(random_, DType::kBf16, {4, 6});
    }
  }

  void write_weights(const std::string& file, const std::vector<std::string>& names) {
    std::map<std::string, TensorView> views;
    for (const std::string& name : names) views[name] = tensors_[name].view();
    write_safetensors(folder_ / file, views, {}, true);
  }
  void write_index(const std::string& map) {
    write_file(folder_ / "model.safetensors.index.json", "{\"weight_map\": {" + map + "}}");
  }
  void expect_refused(ErrorCode code, const std::vector<std::string>& parts) {
    expect_error([&] { open_weight_source(folder_.path()); }, code, parts);
  }

  TempFolder folder_;
  std::mt19937 random_{7};
  std::map<std::string, Tensor> tensors_;
};

TEST_F(HfFolderTest, ReadsASingleFile) {
  write_weights("model.safetensors", {"a.weight", "b.weight"});
  write_file(folder_ / "tokenizer.json", "{}");
  write_file(folder_ / "merges.txt", "a b\n");
  write_file(folder_ / "chat_template.jinja", "{{ messages }}");
  const auto source = open_weight_source(folder_.path());
  EXPECT_EQ(source->names(), (std::vector<std::string>{"a.weight", "b.weight"}));
  EXPECT_EQ(source->config_json(), R"({"model_type": "llama"})");
  EXPECT_EQ(source->text_files(),
            (std::map<std::string, std::string>{{"chat_template.jinja", "{{ messages }}"},
                                                {"merges.txt", "a b\n"},
                                                {"tokenizer.json", "{}"}}));
  EXPECT_TRUE(std::ranges::equal(source->dense("b.weight").bytes, tensors_["b.weight"].bytes));
  EXPECT_EQ(source->shape("a.weight"), (Shape{4, 6}));
  EXPECT_EQ(source->stored_bytes(), 96);
  EXPECT_EQ(source->stored_bytes("a.weight"), 48);
  EXPECT_FALSE(source->is_compressed("a.weight"));
  EXPECT_EQ(source->recipe_json(), "");
  EXPECT_EQ(source->file_of("a.weight"), folder_ / "model.safetensors");
  source->release(source->names());
  EXPECT_TRUE(std::ranges::equal(source->dense("a.weight").bytes, tensors_["a.weight"].bytes));
  expect_error([&] { source->dense("z"); }, ErrorCode::kInputMalformed, {"\"z\""});
  expect_error([&] { source->compressed("a.weight"); }, ErrorCode::kInputMalformed, {"a.weight"});
}

TEST_F(HfFolderTest, ShardsGiveTheSameModel) {
  write_weights("model.safetensors", {"a.weight", "b.weight", "c.weight"});
  const std::string single = open_weight_source(folder_.path())->sha256();
  std::filesystem::remove(folder_ / "model.safetensors");
  write_weights("m-1.safetensors", {"a.weight", "c.weight"});
  write_weights("m-2.safetensors", {"b.weight"});
  write_index(R"("a.weight": "m-1.safetensors", "b.weight": "m-2.safetensors",
                 "c.weight": "m-1.safetensors")");
  const auto source = open_weight_source(folder_.path());
  EXPECT_EQ(source->sha256(), single);
  EXPECT_EQ(source->file_of("b.weight"), folder_ / "m-2.safetensors");
}

TEST_F(HfFolderTest, TheDigestSeesEveryByte) {
  write_weights("model.safetensors", {"a.weight"});
  const std::string before = open_weight_source(folder_.path())->sha256();
  tensors_["a.weight"].bytes[5] ^= std::byte{1};
  write_weights("model.safetensors", {"a.weight"});
  const std::string after = open_weight_source(folder_.path())->sha256();
  EXPECT_NE(before, after);
  write_file(folder_ / "config.json", R"({"model_type": "qwen2"})");
  EXPECT_NE(open_weight_source(folder_.path())->sha256(), after);
}

TEST_F(HfFolderTest, MissingPiecesAreNamed) {
  expect_refused(ErrorCode::kInputMissing, {"model.safetensors"});
  write_weights("m-1.safetensors", {"a.weight"});
  write_index(R"("a.weight": "m-1.safetensors", "b.weight": "m-2.safetensors")");
  expect_refused(ErrorCode::kInputMissing, {folder_ / "m-2.safetensors", "index"});
  write_weights("m-2.safetensors", {"c.weight"});
  expect_refused(ErrorCode::kInputMalformed, {"m-2.safetensors", "\"b.weight\"", "index"});
  std::filesystem::remove(folder_ / "config.json");
  expect_refused(ErrorCode::kInputMissing, {"config.json"});
  expect_error([&] { open_weight_source(folder_ / "nowhere"); }, ErrorCode::kInputMissing,
               {"nowhere"});
}

TEST_F(HfFolderTest, UnlistedTensorsBelongToTheModel) {
  write_weights("m-1.safetensors", {"a.weight", "b.weight"});
  write_weights("m-2.safetensors", {"c.weight"});
  write_index(R"("a.weight": "m-1.safetensors", "c.weight": "m-2.safetensors")");
  EXPECT_TRUE(open_weight_source(folder_.path())->contains("b.weight"));
  write_weights("m-2.safetensors", {"b.weight", "c.weight"});
  expect_refused(ErrorCode::kInputMalformed, {"\"b.weight\"", "does not say"});
}

TEST_F(HfFolderTest, ShardNamesStayInTheFolder) {
  for (const char* name : {"../m.safetensors", "/etc/passwd", "a/b", "..", ".", "", "a\\\\b"}) {
    write_index(std::string(R"("a.weight": ")") + name + "\"");
    expect_refused(ErrorCode::kInputMalformed, {"plain file name"});
  }
}

TEST_F(HfFolderTest, RefusesDamagedTexts) {
  write_weights("m-1.safetensors", {"a.weight"});
  write_index(R"("a.weight": "m-1.safetensors", "a.weight": "m-1.safetensors")");
  expect_refused(ErrorCode::kInputMalformed, {"appears twice"});
  write_index(R"("a.weight": 3)");
  expect_refused(ErrorCode::kInputMalformed, {"\"a.weight\""});
  write_index("");
  expect_refused(ErrorCode::kInputMalformed, {"weight_map"});
  write_file(folder_ / "config.json", "{\"model_type\": ");
  expect_refused(ErrorCode::kInputMalformed, {"config.json", "not valid JSON"});
}

TEST_F(HfFolderTest, OtherFoldersAndFilesAreRefused) {
  std::filesystem::remove(folder_ / "config.json");
  expect_refused(ErrorCode::kInputMalformed, {"neither"});
  write_weights("model.safetensors", {"a.weight"});
  expect_refused(ErrorCode::kInputMissing, {"config.json"});
  expect_error([&] { open_weight_source(folder_ / "model.safetensors"); },
               ErrorCode::kInputMalformed, {"not an HDF5 checkpoint"});
}

}  // namespace
}  // namespace pare::test
