// What a writer leaves behind when things go wrong: full disks, kills, rivals, missing folders.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "formats/checkpoint_reader.h"
#include "formats/output_file.h"
#include "tests/formats/test_files.h"
#include "tests/support/small_disk.h"

namespace pare::test {
namespace {

namespace fs = std::filesystem;

void limit_file_size(rlim_t bytes) {
  ::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit limit = {bytes, RLIM_INFINITY};
  ::setrlimit(RLIMIT_FSIZE, &limit);
}

/// Writes about 1 MiB; `at` is called before every step with its number.
void write_steps(const std::string& path, const std::function<void(int)>& at) {
  std::mt19937 random(4);
  const Tensor tensor = random_tensor(random, DType::kF32, {256, 256});
  int step = 0;
  at(step++);
  CheckpointWriter writer(path, test_header(), true, 300'000);
  at(step++);
  for (const char* name : {"a", "b", "c", "d"}) {
    writer.write_dense(name, tensor.view());
    at(step++);
  }
  writer.finish();
  at(step);
}
constexpr int kSteps = 7;

TEST(CheckpointFaults, ADiskThatFillsUpIsReportedAndLeavesNothing) {
  constexpr int64_t kEnough = 8'000'000;
  // From one page to just short of enough.
  for (const int64_t size : {int64_t{4096}, int64_t{1'000'000}, int64_t{1'200'000},
                             int64_t{1'500'000}, int64_t{1'800'000}, kEnough}) {
    for (const std::string name : {"a.h5", "shards"}) {
      SCOPED_TRACE(name + " on a disk of " + std::to_string(size) + " bytes");
      const auto run = pare::testing::run_on_small_disk(size, [&](const std::string& disk) {
        const auto write = [&] { write_steps(disk + "/" + name, [](int) {}); };
        if (size == kEnough) {
          write();
          EXPECT_EQ(verify_hashes(disk + "/" + name), 4 * 256 * 256 * 4 + 15);
          return;
        }
        expect_error(write, ErrorCode::kWriteFailed,
                     {disk + "/" + name, "No space left on device", "bytes are free"});
        EXPECT_TRUE(fs::is_empty(disk)) << *fs::directory_iterator(disk);
      });
      if (!run.unavailable.empty()) GTEST_SKIP() << run.unavailable;
      EXPECT_EQ(run.status, 0);
    }
  }
}

TEST(CheckpointFaults, ADiskThatFillsUpKeepsTheOldFile) {
  const auto run = pare::testing::run_on_small_disk(1'500'000, [](const std::string& disk) {
    write_file(disk + "/a.h5", "precious");
    expect_error([&] { write_steps(disk + "/a.h5", [](int) {}); }, ErrorCode::kWriteFailed,
                 {"a.h5", "No space left on device"});
    EXPECT_EQ(read_file(disk + "/a.h5"), "precious");
    EXPECT_EQ(std::distance(fs::directory_iterator(disk), {}), 1);
  });
  if (!run.unavailable.empty()) GTEST_SKIP() << run.unavailable;
  EXPECT_EQ(run.status, 0);
}

// Where the file system cannot reserve, the disk is full in the middle of writing.
TEST(CheckpointFaults, ADiskThatFillsUpWhileWritingIsReported) {
  const auto run = pare::testing::run_on_small_disk(65536, [](const std::string& disk) {
    const std::vector<std::byte> bytes(1'000'000);
    GrowingFile file(disk + "/a", "a.h5");
    expect_error([&] { file.write_at(0, bytes); }, ErrorCode::kWriteFailed,
                 {"a.h5: writing", "No space left on device"});
  });
  if (!run.unavailable.empty()) GTEST_SKIP() << run.unavailable;
  EXPECT_EQ(run.status, 0);
}

TEST(CheckpointFaults, AFileSizeLimitIsReportedAndLeavesNothing) {
  // From no room at all to just short of enough: the failure meets each stage of writing.
  for (const rlim_t limit : {0UL, 4096UL, 1'000'000UL, 1'300'000UL, 1'700'000UL, 2'000'000UL}) {
    const TempFolder folder;
    const int status = run_child([&] {
      limit_file_size(limit);
      try {
        write_steps(folder / "a.h5", [](int) {});
      } catch (const Error& error) {
        const std::string message = error.what();
        const bool clear = message.find("a.h5") != std::string::npos &&
                           message.find("bytes are free") != std::string::npos;
        return error.code() == ErrorCode::kWriteFailed && clear ? 42 : 43;
      }
      return 44;
    });
    ASSERT_TRUE(WIFEXITED(status)) << "limit " << limit;
    EXPECT_EQ(WEXITSTATUS(status), 42) << "limit " << limit;
    EXPECT_TRUE(folder.entries().empty()) << "limit " << limit << ": " << folder.entries()[0];
  }
}

TEST(CheckpointFaults, AFileSizeLimitNeedsNoSignalHandler) {
  const TempFolder folder;
  const int status = run_child([&] {
    const struct rlimit limit = {1'300'000, RLIM_INFINITY};
    ::setrlimit(RLIMIT_FSIZE, &limit);  // SIGXFSZ would end the process.
    try {
      write_steps(folder / "shards", [](int) {});
    } catch (const Error& error) {
      return error.code() == ErrorCode::kWriteFailed ? 42 : 43;
    }
    return 44;
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);
  EXPECT_TRUE(folder.entries().empty());
}

TEST(CheckpointFaults, AFileSizeLimitKeepsTheOldFile) {
  const TempFolder folder;
  write_steps(folder / "a.h5", [](int) {});
  const std::string before = read_file(folder / "a.h5");
  run_child([&] {
    limit_file_size(1'500'000);
    write_steps(folder / "a.h5", [](int) {});
    return 0;
  });
  EXPECT_EQ(read_file(folder / "a.h5"), before);
  EXPECT_EQ(folder.entries(), std::vector<std::string>{"a.h5"});
}

TEST(CheckpointFaults, AFailedTensorCannotBeFinished) {
  const TempFolder folder;
  const int status = run_child([&] {
    std::mt19937 random(4);
    const Tensor tensor = random_tensor(random, DType::kF32, {1024, 1024});
    CheckpointWriter writer(folder / "a.h5", test_header(), false);
    limit_file_size(3'000'000);
    try {
      writer.write_dense("a", tensor.view());
      return 1;
    } catch (const Error&) {
    }
    try {
      writer.finish();
      return 2;
    } catch (const Error&) {
    }
    return 0;
  });
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(folder.entries().empty());
}

class KillTest : public ::testing::TestWithParam<const char*> {};

TEST_P(KillTest, AtEveryStepNothingAppears) {
  for (int kill_at = 0; kill_at < kSteps; ++kill_at) {
    const TempFolder folder;
    const std::string path = folder / GetParam();
    const int status = run_child([&] {
      write_steps(path, [&](int step) {
        if (step == kill_at) ::raise(SIGKILL);
      });
      return 0;
    });
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "step " << kill_at;
    if (kill_at + 1 < kSteps) {
      EXPECT_FALSE(fs::exists(path)) << "step " << kill_at;
    } else {
      verify_hashes(path);
    }
    // The next writer clears what the killed one left.
    write_steps(path, [](int) {});
    EXPECT_EQ(verify_hashes(path), 4 * 256 * 256 * 4 + 15);
    EXPECT_EQ(folder.entries(), std::vector<std::string>{GetParam()}) << "step " << kill_at;
  }
}

TEST_P(KillTest, AtAnyMomentTheOldOrTheNewIsWhole) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const TempFolder folder;
  const std::string path = folder / GetParam();
  write_steps(path, [](int) {});
  for (int round = 0; round < 25; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      while (true) write_steps(path, [](int) {});
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 40'000));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(verify_hashes(path), 4 * 256 * 256 * 4 + 15) << "round " << round;
  }
}

INSTANTIATE_TEST_SUITE_P(CheckpointFaults, KillTest, ::testing::Values("a.h5", "shards"));

TEST(CheckpointFaults, ASecondWriterIsRefused) {
  const TempFolder folder;
  std::mt19937 random(4);
  const Tensor tensor = random_tensor(random, DType::kF32, {16});
  CheckpointWriter first(folder / "a.h5", test_header(), false);
  first.write_dense("a", tensor.view());
  expect_error([&] { CheckpointWriter(folder / "a.h5", test_header(), true); },
               ErrorCode::kWriteFailed, {"a.h5", "another process"});
  const int status = run_child([&] {
    try {
      CheckpointWriter(folder / "a.h5", test_header(), true);
    } catch (const Error& error) {
      return error.code() == ErrorCode::kWriteFailed ? 42 : 43;
    }
    return 44;
  });
  EXPECT_EQ(WEXITSTATUS(status), 42);
  first.finish();
  EXPECT_EQ(open_checkpoint(folder / "a.h5")->names(), std::vector<std::string>{"a"});
  CheckpointWriter(folder / "a.h5", test_header(), true).finish();  // The lock went with the first.
}

TEST(CheckpointFaults, ExistingOutputNeedsForce) {
  const TempFolder folder;
  write_file(folder / "a.h5", "precious");
  expect_error([&] { CheckpointWriter(folder / "a.h5", test_header(), false); },
               ErrorCode::kWriteFailed, {"a.h5", "--force"});
  { const CheckpointWriter abandoned(folder / "a.h5", test_header(), true); }
  EXPECT_EQ(read_file(folder / "a.h5"), "precious");
  EXPECT_EQ(folder.entries(), std::vector<std::string>{"a.h5"});
  fs::create_directory(folder / "b.h5");
  expect_error([&] { CheckpointWriter(folder / "b.h5", test_header(), true); },
               ErrorCode::kWriteFailed, {"b.h5", "folder"});
  expect_error([&] { CheckpointWriter(folder / "a.h5/x", test_header(), true); },
               ErrorCode::kWriteFailed, {"a.h5"});
}

TEST(CheckpointFaults, AFileThatAppearedMeanwhileIsKept) {
  const TempFolder folder;
  CheckpointWriter writer(folder / "a.h5", test_header(), false);
  write_file(folder / "a.h5", "precious");
  expect_error([&] { writer.finish(); }, ErrorCode::kWriteFailed, {"a.h5"});
  EXPECT_EQ(read_file(folder / "a.h5"), "precious");
}

TEST(CheckpointFaults, MissingFoldersAreNamed) {
  const TempFolder folder;
  for (const char* path : {"no/where/a.h5", "no/where/shards"}) {
    expect_error([&] { CheckpointWriter(folder / path, test_header(), false); },
                 ErrorCode::kWriteFailed, {"no/where", "does not exist"});
  }
  EXPECT_TRUE(folder.entries().empty());
}

TEST(CheckpointFaults, AReadOnlyFolderIsAnError) {
  const TempFolder folder;
  fs::permissions(folder.path(), fs::perms(0555));
  constexpr int kStillRoot = 98;
  const int status = run_child([&] {
    constexpr uid_t kNobody = 65534;  // Root may write everywhere.
    if (::geteuid() == 0 && ::setresuid(kNobody, kNobody, kNobody) != 0) return kStillRoot;
    expect_error([&] { CheckpointWriter(folder / "a.h5", test_header(), false); },
                 ErrorCode::kWriteFailed, {"a.h5", "denied"});
    return ::testing::Test::HasFailure() ? 1 : 0;
  });
  if (WIFEXITED(status) && WEXITSTATUS(status) == kStillRoot) GTEST_SKIP() << "always root here";
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(folder.entries().empty());
  fs::permissions(folder.path(), fs::perms::owner_all);
}

}  // namespace
}  // namespace pare::test
