// A fixed set of worker threads that run numbered blocks of work.
//
// Results never depend on the number of threads: callers cut work into fixed blocks, every block
// writes only to its own place, and partial sums are added afterwards in block order. Each worker
// limits OpenMP to one thread, so that a library called inside a block does not split it further.
//
//   ThreadPool pool(2);
//   pool.parallel_for(blocks, [&](size_t block, size_t worker) { ... });
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace pare {

class ThreadPool {
 public:
  /// `threads` workers, at least one; 0 takes as many as the machine has processors. Throws
  /// Error(kUsage) above 1024, and Error(kLimitExceeded) when the system starts no more of them.
  explicit ThreadPool(size_t threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  size_t size() const noexcept;

  /// Calls body(block, worker) for each block in [0, count); worker < size() is the number of the
  /// thread, for scratch memory. Returns when all are done. The first exception of the lowest
  /// block that threw is rethrown here, and blocks not yet begun are dropped. Not reentrant.
  void parallel_for(size_t count, const std::function<void(size_t block, size_t worker)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pare
