// Paths that the system refuses: links in a circle, folders in the place of files, folders that may
// not be listed. Each is an Error that names the path, never an exception of the standard library.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "formats/checkpoint_reader.h"
#include "formats/output_file.h"
#include "formats/safetensors_writer.h"
#include "formats/weight_source.h"
#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLoop = "Too many levels of symbolic links";

/// Puts a link to itself in the place of `path`.
void make_loop(const std::string& path) {
  fs::remove_all(path);
  fs::create_symlink(fs::path(path).filename(), path);
}

TEST(PathFaults, OfAModelsFolder) {
  std::mt19937 random(3);
  const Tensor tensor = random_tensor(random, DType::kBf16, {4, 6});
  for (const char* name : {"config.json", "tokenizer.json", "model.safetensors",
                           "model.safetensors.index.json", "m-1.safetensors"}) {
    SCOPED_TRACE(name);
    const TempFolder folder;
    write_file(folder / "config.json", R"({"model_type": "llama"})");
    write_safetensors(folder / "m-1.safetensors", {{"a.weight", tensor.view()}}, {}, true);
    write_file(folder / "model.safetensors.index.json",
               R"({"weight_map": {"a.weight": "m-1.safetensors"}})");
    open_weight_source(folder.path());
    make_loop(folder / name);
    expect_error([&] { open_weight_source(folder.path()); }, ErrorCode::kInputMissing,
                 {folder / name, kLoop});
    fs::remove(folder / name);
    fs::create_directory(folder / name);
    expect_error([&] { open_weight_source(folder.path()); }, ErrorCode::kInputMalformed,
                 {folder / name, "is a folder"});
  }
}

TEST(PathFaults, OfACheckpoint) {
  const TempFolder folder;
  make_loop(folder / "loop");
  using Open = std::function<void(const std::string&)>;
  for (const Open& open : {Open(open_weight_source), Open(open_checkpoint)}) {
    expect_error([&] { open(folder / "loop"); }, ErrorCode::kInputMissing,
                 {folder / "loop", kLoop});
    const std::string long_name = folder / std::string(300, 'n');
    expect_error([&] { open(long_name); }, ErrorCode::kInputMissing,
                 {long_name, "File name too long"});
  }
  write_small_checkpoint(folder / "out");
  const std::string shard = folder / "out/out-00001-of-00001.h5";
  make_loop(shard);
  expect_error([&] { open_weight_source(folder / "out"); }, ErrorCode::kInputMissing,
               {shard, kLoop});
  fs::remove(shard);
  fs::create_directory(shard);
  expect_error([&] { open_weight_source(folder / "out"); }, ErrorCode::kInputMalformed,
               {shard, "is a folder"});
}

TEST(PathFaults, APipeIsNoModelAndIsNotWaitedFor) {
  const TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  expect_error([&] { open_weight_source(folder / "pipe"); }, ErrorCode::kInputMalformed,
               {folder / "pipe", "regular file"});
  expect_error([&] { open_checkpoint(folder / "pipe"); }, ErrorCode::kInputMissing,
               {folder / "pipe", "regular file"});
}

TEST(PathFaults, OfAnOutput) {
  const TempFolder folder;
  make_loop(folder / "loop");
  expect_error([&] { check_output_place(folder / "loop/out", true, false); },
               ErrorCode::kWriteFailed, {folder / "loop", kLoop});
  // Something in the way of a shard's final name.
  std::mt19937 random(3);
  CheckpointWriter writer(folder / "out", test_header(), false);
  writer.write_dense("a", random_tensor(random, DType::kF32, {4}).view());
  fs::create_directories(folder / "out.pare-tmp/out-00001-of-00001.h5/x");
  expect_error([&] { writer.finish(); }, ErrorCode::kWriteFailed, {folder / "out", "renaming"});
}

TEST(PathFaults, FoldersThatMayNotBeListed) {
  const TempFolder folder;
  fs::permissions(folder.path(), fs::perms::all);
  fs::create_directory(folder / "out");
  write_file(folder / "out/x.h5", "x");
  fs::permissions(folder / "out", fs::perms::owner_exec | fs::perms::others_exec);
  constexpr int kStillRoot = 98;
  const int status = run_child([&] {
    constexpr uid_t kNobody = 65534;  // Root may read everywhere.
    if (::geteuid() == 0 && ::setresuid(kNobody, kNobody, kNobody) != 0) return kStillRoot;
    expect_error([&] { check_output_place(folder / "out", true, true); }, ErrorCode::kWriteFailed,
                 {folder / "out", "denied"});
    expect_error([&] { open_weight_source(folder / "out"); }, ErrorCode::kInputMissing,
                 {folder / "out", "denied"});
    return ::testing::Test::HasFailure() ? 1 : 0;
  });
  fs::permissions(folder / "out", fs::perms::owner_all);
  if (WIFEXITED(status) && WEXITSTATUS(status) == kStillRoot) GTEST_SKIP() << "always root here";
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace pare::test
