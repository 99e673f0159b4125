#include "core/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "pare/error.h"

namespace pare {
namespace {

TEST(ThreadPool, EveryBlockRunsOnce) {
  for (const size_t threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    for (const size_t count : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> runs(count);
      pool.parallel_for(count, [&](size_t block, size_t worker) {
        ASSERT_LT(worker, threads);
        ++runs[block];
      });
      for (const auto& run : runs) EXPECT_EQ(run, 1);
    }
  }
}

TEST(ThreadPool, FailureReachesTheCallerAndThePoolLivesOn) {
  ThreadPool pool(3);
  EXPECT_THROW(pool.parallel_for(100,
                                 [](size_t block, size_t) {
                                   if (block % 10 == 3) throw std::runtime_error("block");
                                 }),
               std::runtime_error);
  std::atomic<int> runs = 0;
  pool.parallel_for(10, [&](size_t, size_t) { ++runs; });
  EXPECT_EQ(runs, 10);
}

TEST(ThreadPool, AbsurdNumbersAreRefusedByTheOptionsName) {
  for (const size_t threads : {size_t{1025}, size_t{100000}, SIZE_MAX}) {
    try {
      const ThreadPool pool(threads);
      ADD_FAILURE() << threads;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage);
      EXPECT_NE(std::string(error.what()).find("--threads"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find(std::to_string(threads)), std::string::npos);
    }
  }
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
constexpr bool kSanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool kSanitized = false;
#endif

// In a process of its own: leaves room for the stacks of a few threads, then asks for many.
[[noreturn]] void ask_for_more_threads_than_fit() {
  std::ifstream sizes("/proc/self/statm");
  rlim_t pages = 0;
  sizes >> pages;
  const rlim_t bytes = pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + (rlim_t{256} << 20);
  const rlimit limit{bytes, bytes};
  if (!sizes || setrlimit(RLIMIT_AS, &limit) != 0) std::exit(3);
  try {
    const ThreadPool pool(1000);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    std::exit(error.code() == ErrorCode::kLimitExceeded ? 0 : 2);
  }
  std::exit(1);
}

TEST(ThreadPoolDeathTest, ThreadsThatCannotBeStartedAreAnErrorAndTheOthersEnd) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer needs the address space that is taken away here";
  EXPECT_EXIT(ask_for_more_threads_than_fit(), ::testing::ExitedWithCode(0),
              "only [1-9][0-9]* of 1000 threads could be started.*--threads");
}

}  // namespace
}  // namespace pare
