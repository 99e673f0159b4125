#include "core/thread_pool.h"

#include <omp.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "pare/error.h"

namespace pare {
namespace {

// More than the processors of any machine; a larger number is a slip of the keyboard.
constexpr size_t kMostThreads = 1024;

}  // namespace

struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable work_ready;
  std::condition_variable work_done;
  const std::function<void(size_t, size_t)>* body = nullptr;
  size_t count = 0;
  size_t next = 0;
  size_t active = 0;
  size_t failed_block = 0;
  std::exception_ptr failure;
  bool stopping = false;
  std::vector<std::thread> workers;

  // Also what ends the workers that run already when a later one cannot be started.
  ~State() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    work_ready.notify_all();
    for (std::thread& worker : workers) worker.join();
  }

  void run(size_t worker) {
    omp_set_num_threads(1);
    std::unique_lock lock(mutex);
    while (true) {
      work_ready.wait(lock, [&] { return stopping || next < count; });
      if (stopping) return;
      const size_t block = next++;
      ++active;
      lock.unlock();
      std::exception_ptr thrown;
      try {
        (*body)(block, worker);
      } catch (...) {
        thrown = std::current_exception();
      }
      lock.lock();
      if (thrown) {
        if (!failure || block < failed_block) {
          failure = thrown;
          failed_block = block;
        }
        next = count;
      }
      --active;
      if (active == 0 && next >= count) work_done.notify_all();
    }
  }
};

ThreadPool::ThreadPool(size_t threads) : state_(std::make_unique<State>()) {
  if (threads > kMostThreads) {
    throw Error(ErrorCode::kUsage, "--threads: expected 0 ... " + std::to_string(kMostThreads) +
                                       ", found " + std::to_string(threads) +
                                       "; 0 takes all processors");
  }
  if (threads == 0) {
    threads = std::clamp<size_t>(std::thread::hardware_concurrency(), 1, kMostThreads);
  }
  state_->workers.reserve(threads);
  try {
    for (size_t i = 0; i < threads; ++i) {
      state_->workers.emplace_back([state = state_.get(), i] { state->run(i); });
    }
  } catch (const std::system_error& error) {
    throw Error(ErrorCode::kLimitExceeded,
                "only " + std::to_string(state_->workers.size()) + " of " +
                    std::to_string(threads) + " threads could be started (" + error.what() +
                    "); give a smaller --threads, or raise the limit on processes or memory");
  }
}

ThreadPool::~ThreadPool() = default;

size_t ThreadPool::size() const noexcept { return state_->workers.size(); }

void ThreadPool::parallel_for(size_t count, const std::function<void(size_t, size_t)>& body) {
  if (count == 0) return;
  std::unique_lock lock(state_->mutex);
  state_->body = &body;
  state_->failure = nullptr;
  state_->next = 0;
  state_->count = count;
  state_->work_ready.notify_all();
  state_->work_done.wait(lock, [&] { return state_->active == 0 && state_->next >= count; });
  state_->count = 0;
  state_->next = 0;
  state_->body = nullptr;
  if (state_->failure) std::rethrow_exception(state_->failure);
}

}  // namespace pare
