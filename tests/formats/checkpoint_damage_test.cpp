// Truncated and randomly damaged checkpoints: an error, never a crash.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "formats/checkpoint_reader.h"
#include "tests/formats/test_files.h"

namespace pare::test {
namespace {

TEST(DamagedCheckpoint, EveryTruncationIsAnError) {
  const TempFolder folder;
  const std::string path = folder / "a.h5";
  write_small_checkpoint(path);
  const std::string whole = read_file(path);
  for (size_t length = 0; length < whole.size(); length += length < 200 ? 1 : 509) {
    write_file(path, whole.substr(0, length));
    expect_error([&] { open_checkpoint(path); }, ErrorCode::kInputMalformed, {path});
  }
  write_file(path, whole.substr(0, whole.size() - 1));
  expect_error([&] { open_weight_source(path); }, ErrorCode::kInputMalformed, {path, "truncated"});
}

TEST(DamagedCheckpoint, RandomDamageNeverCrashesOrGoesUnnoticed) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  const TempFolder folder;
  write_small_checkpoint(folder / "valid.h5");
  const std::string whole = read_file(folder / "valid.h5");
  const int status = run_child([&] {
    std::mt19937 random(seed);
    const std::string path = folder / "a.h5";
    int refused = 0;
    for (int i = 0; i < 400; ++i) {
      std::string damaged = whole;
      // Mostly zeros are padding; damage what is something.
      size_t at = random() % damaged.size();
      while (damaged[at] == 0) at = random() % damaged.size();
      damaged[at] = static_cast<char>(static_cast<unsigned>(damaged[at]) ^ (1U << (random() % 8)));
      write_file(path, damaged);
      try {
        const auto source = open_checkpoint(path);
        for (const std::string& name : source->names()) {
          if (source->is_compressed(name)) {
            source->compressed(name);
          } else {
            source->dense(name);
          }
        }
        verify_hashes(path);
      } catch (const Error& error) {
        if (error.code() != ErrorCode::kInputMalformed) return 2;
        ++refused;
      }
    }
    return refused > 200 ? 0 : 3;
  });
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// The library itself crashes or hangs on some of these: see formats/hdf5_texts.h.
TEST(DamagedCheckpoint, EveryDamagedHeapByteIsSurvived) {
  const TempFolder folder;
  write_small_checkpoint(folder / "valid.h5");
  const std::string whole = read_file(folder / "valid.h5");
  const size_t heap = whole.find("GCOL");
  ASSERT_NE(heap, std::string::npos);
  const int status = run_child([&] {
    ::alarm(120);
    int refused = 0;
    for (size_t at = heap; at < heap + 2048; at += 8) {
      for (const unsigned flip : {0x01U, 0xffU}) {
        std::string damaged = whole;
        damaged[at] = static_cast<char>(static_cast<unsigned>(damaged[at]) ^ flip);
        write_file(folder / "a.h5", damaged);
        try {
          verify_hashes(folder / "a.h5");
        } catch (const Error& error) {
          if (error.code() != ErrorCode::kInputMalformed) return 2;
          ++refused;
        }
      }
    }
    return refused > 100 ? 0 : 3;
  });
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace pare::test
