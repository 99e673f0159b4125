#include "core/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

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

}  // namespace
}  // namespace pare
