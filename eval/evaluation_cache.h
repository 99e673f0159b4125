// Finished parts of evaluations in a folder, for later runs and for interrupted ones.
//
// An entry is some arrays of bytes under a description, JSON text of all that they follow from:
// digests of models and tokens, arithmetic, kernels, pare's version. Its file carries description
// and digest, so an entry is found whole and for exactly this description, or not at all. Nothing
// that goes wrong here spoils an evaluation: a damaged entry is made again, what cannot be
// written is not kept, and either is a warning. Several processes may share a folder. Not
// thread-safe.
//
//   EvaluationCache cache(options.cache);
//   StateView scores;
//   scores.add(nll);
//   if (!cache.load(description, scores)) { …; cache.store(description, scores); }
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace pare {

/// Vectors that are stored and loaded together. Keeps references to them.
class StateView {
 public:
  /// Of as many values as it has now.
  template <typename T>
  void add(std::vector<T>& values) {
    add_any(values);
    arrays_.back().bytes_expected = values.size() * sizeof(T);
  }

  /// Of any number of values.
  template <typename T>
  void add_any(std::vector<T>& values) {
    static_assert(std::is_trivially_copyable_v<T>);
    arrays_.push_back({[&values] { return std::as_bytes(std::span<const T>(values)); },
                       [&values](size_t bytes) {
                         values.resize(bytes / sizeof(T));
                         return std::as_writable_bytes(std::span<T>(values));
                       },
                       sizeof(T), std::nullopt});
  }

 private:
  friend class EvaluationCache;
  struct Array {
    std::function<std::span<const std::byte>()> bytes;
    std::function<std::span<std::byte>(size_t)> resized;
    size_t element = 1;
    std::optional<size_t> bytes_expected;
  };
  std::vector<Array> arrays_;
};

class EvaluationCache {
 public:
  /// Creates the folder; "" keeps nothing. Throws Error(kWriteFailed).
  explicit EvaluationCache(std::string folder);

  bool enabled() const noexcept { return !folder_.empty(); }

  /// Fills the arrays and returns true, or leaves them as they are and returns false.
  bool load(const std::string& description, const StateView& state);
  void store(const std::string& description, const StateView& state);
  void remove(const std::string& description);

  /// What went wrong since the last call.
  std::vector<std::string> take_warnings() { return std::exchange(warnings_, {}); }

 private:
  std::string path_of(const std::string& description) const;

  std::string folder_;
  bool writable_ = true;
  int failures_ = 0;
  std::vector<std::string> warnings_;
};

/// Puts the state of a long run aside from time to time.
class Checkpointer {
 public:
  /// At most every `seconds`, and so seldom that writing takes a small share of the time.
  Checkpointer(EvaluationCache& cache, std::string description, double seconds)
      : cache_(cache), description_(std::move(description)), seconds_(seconds) {}

  bool restore(const StateView& state) { return cache_.load(description_, state); }
  void save_if_due(const StateView& state);
  /// The run is complete: the state is not needed any more.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;

  EvaluationCache& cache_;
  std::string description_;
  double seconds_;
  Clock::time_point last_ = Clock::now();
  double last_cost_ = 0;
};

}  // namespace pare
