// Checkpoints in shards: the same tensors, an index that is checked, folders that are safe.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/sha256.h"
#include "formats/checkpoint_reader.h"
#include "formats/output_file.h"
#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

CheckpointFile write(const std::string& path, bool force, int64_t shard_bytes) {
  std::mt19937 random(9);
  CheckpointWriter writer(path, test_header(), force, shard_bytes);
  writer.write_dense("model.norm.weight", random_tensor(random, DType::kBf16, {40}).view());
  for (const auto& [name, weight] : all_schemes(random)) writer.write_compressed(name, weight);
  return writer.finish();
}

class ShardsTest : public ::testing::Test {
 protected:
  ShardsTest() : out_(folder_ / "out") {
    file_ = write(out_, false, 2000);
    index_ = out_ + "/out.h5.index.json";
    json_ = Json::parse(read_file(index_));
  }
  std::string shard(size_t number) {
    return out_ + "/" + json_["shards"][number]["file"].get<std::string>();
  }
  void expect_refused(ErrorCode code, const std::vector<std::string>& parts) {
    expect_error([&] { open_weight_source(out_); }, code, parts);
  }

  TempFolder folder_;
  std::string out_;
  std::string index_;
  CheckpointFile file_;
  Json json_;
};

TEST_F(ShardsTest, GiveTheSameTensorsAsOneFile) {
  write(folder_ / "one.h5", false, 2000);
  const auto one = open_weight_source(folder_ / "one.h5");
  ASSERT_GT(json_["shards"].size(), 3U);
  for (const std::string& path : {out_, index_, out_ + "/"}) {
    const auto many = open_weight_source(path);
    EXPECT_EQ(many->names(), one->names());
    EXPECT_EQ(many->sha256(), one->sha256());
    EXPECT_EQ(many->config_json(), one->config_json());
    EXPECT_EQ(many->text_files(), one->text_files());
    EXPECT_EQ(many->stored_bytes(), one->stored_bytes());
    for (const std::string& name : one->names()) {
      if (!one->is_compressed(name)) continue;
      EXPECT_EQ(many->compressed(name).codes, one->compressed(name).codes) << name;
    }
  }
  EXPECT_EQ(verify_hashes(out_), verify_hashes(folder_ / "one.h5"));
}

TEST_F(ShardsTest, IndexDescribesTheFiles) {
  EXPECT_EQ(file_.sha256, sha256_file(index_));
  int64_t bytes = static_cast<int64_t>(fs::file_size(index_));
  const size_t count = json_["shards"].size();
  for (size_t i = 0; i < count; ++i) {
    const Json& entry = json_["shards"][i];
    EXPECT_EQ(entry["sha256"], sha256_file(shard(i)));
    EXPECT_EQ(entry["bytes"], fs::file_size(shard(i)));
    bytes += entry["bytes"].get<int64_t>();
  }
  EXPECT_EQ(file_.bytes, bytes);
  EXPECT_EQ(json_["shards"][0]["file"], "out-00001-of-0000" + std::to_string(count) + ".h5");
  EXPECT_EQ(std::distance(fs::directory_iterator(out_), {}),
            static_cast<std::ptrdiff_t>(count + 1));
}

TEST_F(ShardsTest, MissingAndTruncatedShardsAreNamed) {
  const std::string bytes = read_file(shard(1));
  write_file(shard(1), bytes.substr(0, bytes.size() - 1));
  expect_refused(ErrorCode::kInputMalformed, {shard(1), "truncated"});
  fs::remove(shard(1));
  expect_refused(ErrorCode::kInputMissing, {shard(1), "index"});
}

TEST_F(ShardsTest, VerifyComparesWholeFiles) {
  std::string bytes = read_file(shard(0));
  // Padding between two structures: in no payload, and under no checksum of HDF5.
  const size_t padding = bytes.find(std::string(200, '\0'));
  ASSERT_NE(padding, std::string::npos);
  bytes[padding + 100] = 'x';
  write_file(shard(0), bytes);
  open_weight_source(out_);
  expect_error([&] { verify_hashes(out_); }, ErrorCode::kInputMalformed, {shard(0), "SHA-256"});
}

TEST_F(ShardsTest, IndexMustAgreeWithTheShards) {
  const auto refuse = [&](const std::function<void(Json&)>& damage,
                          const std::vector<std::string>& parts) {
    Json copy = json_;
    damage(copy);
    write_file(index_, copy.dump());
    expect_refused(ErrorCode::kInputMalformed, parts);
  };
  refuse([](Json& j) { j["weight_map"].erase("model.norm.weight"); }, {"model.norm.weight"});
  refuse([&](Json& j) { j["weight_map"]["nobody"] = j["shards"][0]["file"]; }, {"nobody"});
  refuse([&](Json& j) { j["weight_map"]["model.norm.weight"] = j["shards"][1]["file"]; },
         {"model.norm.weight"});
  refuse([](Json& j) { j["weight_map"]["model.norm.weight"] = "else.h5"; }, {"model.norm.weight"});
  refuse([](Json& j) { j["shards"][0]["file"] = "../out/x.h5"; }, {"plain file name"});
  refuse([](Json& j) { j["shards"][1] = j["shards"][0]; }, {"twice"});
  refuse(
      [](Json& j) {
        j["shards"] = Json::array();
        j["weight_map"] = Json::object();
      },
      {"no shards"});
  refuse([](Json& j) { j["pare_format_version"] = 3; }, {"version 1"});
  refuse([](Json& j) { j.erase("shards"); }, {"not an index"});
  refuse([](Json& j) { j["shards"][0]["bytes"] = "many"; }, {"not an index"});
  refuse([](Json& j) { j["shards"][0]["bytes"] = 1e300; }, {"not an index", "1e+300"});
  for (const char* name : {"..", ".", "", "/etc/passwd"}) {
    refuse([&](Json& j) { j["shards"][0]["file"] = name; }, {"plain file name"});
  }
  write_file(index_, "{");
  expect_refused(ErrorCode::kInputMalformed, {"not valid JSON"});
}

TEST_F(ShardsTest, ExistingFoldersAreSafe) {
  expect_error([&] { write(out_, false, 2000); }, ErrorCode::kWriteFailed, {"--force"});
  const CheckpointFile again = write(out_, true, 2000);
  EXPECT_EQ(again.sha256, file_.sha256);
  write(out_, true, 1 << 20);  // Fewer shards: the old ones are gone.
  EXPECT_EQ(std::distance(fs::directory_iterator(out_), {}), 2);
  open_weight_source(out_);
  write_file(out_ + "/thesis.txt", "mine");
  expect_error([&] { write(out_, true, 2000); }, ErrorCode::kWriteFailed, {"thesis.txt"});
  EXPECT_EQ(read_file(out_ + "/thesis.txt"), "mine");
  fs::create_directory(folder_ / "empty");
  write(folder_ / "empty/", false, 2000);
  open_weight_source(folder_ / "empty");
  EXPECT_EQ(folder_.entries(), (std::vector<std::string>{"empty", "out"}));
}

TEST_F(ShardsTest, OnlyWhatIsACheckpointIsReplaced) {
  const auto refuse = [&](const std::vector<std::string>& parts) {
    const size_t count = static_cast<size_t>(std::distance(fs::directory_iterator(out_), {}));
    expect_error([&] { write(out_, true, 2000); }, ErrorCode::kWriteFailed, parts);
    EXPECT_EQ(static_cast<size_t>(std::distance(fs::directory_iterator(out_), {})), count);
  };
  write_file(out_ + "/thesis.h5", "mine");
  refuse({out_, "\"thesis.h5\"", "not part"});
  fs::remove(out_ + "/thesis.h5");
  const std::string index = read_file(index_);
  fs::remove(index_);
  refuse({out_, "out-00001", "no index"});
  // Another tool's index.
  write_file(index_, R"({"weight_map": {"a": "out-00001-of-00005.h5"}})");
  refuse({out_, "no folder of shards"});
  write_file(index_, index);
  write_file(out_ + "/b.h5.index.json", index);
  refuse({out_, "more than one index"});
  fs::remove(out_ + "/b.h5.index.json");
  fs::remove(shard(1));
  fs::create_directory(shard(1));
  refuse({out_, fs::path(shard(1)).filename().string()});
  fs::remove(shard(1));
  write(out_, true, 2000);  // A shard that is missing is no reason.
  open_weight_source(out_);
}

TEST_F(ShardsTest, WhatIsWrittenCanBeRead) {
  for (const std::string& name :
       {std::string("my..model"),
        std::string("gr\xc3\xb6\xc3\x9f"
                    "e"),
        std::string("a \"b\""), std::string("a\\b"), std::string(231, 'n')}) {
    SCOPED_TRACE(name);
    const std::string path = folder_ / name;
    check_output_place(path, true, false);
    write(path, false, 2000);
    EXPECT_EQ(open_weight_source(path)->sha256(), open_weight_source(out_)->sha256());
    write(path, true, 2000);
  }
}

TEST_F(ShardsTest, NamesThatShardsCannotHaveAreRefusedBeforeTheWork) {
  const std::vector<std::string> before = folder_.entries();
  for (const auto& [name, part] : std::map<std::string, std::string>{{"\xff", "UTF-8"},
                                                                     {"caf\xe9/", "UTF-8"},
                                                                     {std::string(232, 'n'), "232"},
                                                                     {".", "no new folder"},
                                                                     {"out/..", "no new folder"},
                                                                     {"./", "no new folder"}}) {
    const std::string path = folder_.path() + "/" + name;
    expect_error([&] { check_output_place(path, true, true); }, ErrorCode::kUsage,
                 {folder_.path(), part});
    expect_error([&] { write(path, true, 2000); }, ErrorCode::kUsage, {folder_.path(), part});
  }
  EXPECT_EQ(folder_.entries(), before);
}

TEST_F(ShardsTest, AbandonedWritersLeaveNothing) {
  std::mt19937 random(2);
  {
    CheckpointWriter writer(folder_ / "gone", test_header(), false);
    writer.write_dense("a", random_tensor(random, DType::kF32, {9}).view());
    expect_error([&] { CheckpointWriter(folder_ / "gone", test_header(), true); },
                 ErrorCode::kWriteFailed, {"another process"});
  }
  EXPECT_EQ(folder_.entries(), std::vector<std::string>{"out"});
}

}  // namespace
}  // namespace pare::test
