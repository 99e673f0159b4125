// State updates a second of the scans in kernels/selective_scan.h, and what part that is of a
// limit.
//
// All states and inputs of a block of channels come from the first- and second-level cache, so the
// limit is arithmetic. A state of Mamba takes 21 vector operations (17 for its exponential), one of
// Mamba-2 three multiply-adds; how many the core does a second is measured with
// kernels/ordered_product.h on matrices in the first-level cache. "of_limit" is 1 where every
// operation slot is used. The convolution is one pass over memory: its limit is that of a copy.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/causal_conv.h"
#include "kernels/ordered_product.h"
#include "kernels/selective_scan.h"

namespace pare {
namespace {

constexpr double kOperationsOfMamba = 13;
constexpr double kOperationsOfMamba2 = 3;

std::vector<float> uniform_values(int64_t size, float low, float high, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(low, high);
  std::vector<float> values(static_cast<size_t>(size));
  for (float& value : values) value = uniform(generator);
  return values;
}

/// The best of a few tries, in units of `work` a second.
template <typename Body>
double best_rate(double work, const Body& body) {
  double best = 0;
  for (int i = 0; i < 20; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, work / seconds.count());
  }
  return best;
}

/// Multiply-adds a second of this core.
double multiply_add_rate() {
  constexpr int64_t kSize = 64;
  const auto a = uniform_values(kSize * kSize, -1, 1, 1);
  const auto b = uniform_values(kSize * kSize, -1, 1, 2);
  std::vector<float> c(a.size());
  constexpr int kRepeats = 100;
  return best_rate(static_cast<double>(kRepeats * kSize * kSize * kSize), [&] {
    for (int i = 0; i < kRepeats; ++i) {
      ordered_product(
          {.m = kSize, .n = kSize, .k = kSize, .lda = kSize, .ldb = kSize, .ldc = kSize}, a.data(),
          b.data(), c.data());
      benchmark::ClobberMemory();
    }
  });
}

/// Runs the body as often as asked; the work done a second.
template <typename Body>
double measure(benchmark::State& state, double work, const Body& body) {
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) {
    body();
    benchmark::ClobberMemory();
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return work * static_cast<double>(state.iterations()) / seconds.count();
}

void report(benchmark::State& state, const char* name, double rate, double limit) {
  state.counters[name] = benchmark::Counter(rate);
  state.counters["of_limit"] = benchmark::Counter(rate / limit);
}

void bench_selective_scan(benchmark::State& state) {
  const int64_t rows = state.range(0);
  const int64_t channels = state.range(1);
  const int64_t size = state.range(2);
  const auto x = uniform_values(rows * channels, -1, 1, 1);
  const auto dt = uniform_values(rows * channels, 0.001F, 0.1F, 2);
  const auto b = uniform_values(rows * size, -1, 1, 3);
  const auto c = uniform_values(rows * size, -1, 1, 4);
  const auto a = uniform_values(channels * size, -16, -1, 5);
  const auto d = uniform_values(channels, -1, 1, 6);
  std::vector<float> carried(a.size());
  std::vector<float> y(x.size());
  const double rate = measure(state, static_cast<double>(rows * channels * size), [&] {
    selective_scan({x.data(), dt.data(), b.data(), c.data(), rows}, a, d, channels, size, carried,
                   y.data());
  });
  report(state, "updates_per_s", rate, multiply_add_rate() / kOperationsOfMamba);
}

void bench_state_space_scan(benchmark::State& state) {
  const int64_t rows = state.range(0);
  const StateSpaceShape shape{
      .heads = state.range(1), .head_dim = state.range(2), .state_size = state.range(3)};
  const int64_t width = shape.heads * shape.head_dim;
  const auto x = uniform_values(rows * width, -1, 1, 1);
  const auto dt = uniform_values(rows * shape.heads, 0.001F, 0.1F, 2);
  const auto b = uniform_values(rows * shape.state_size, -1, 1, 3);
  const auto c = uniform_values(rows * shape.state_size, -1, 1, 4);
  const auto a = uniform_values(shape.heads, -16, -1, 5);
  const auto d = uniform_values(shape.heads, -1, 1, 6);
  std::vector<float> carried(static_cast<size_t>(width * shape.state_size));
  std::vector<float> y(x.size());
  const double rate = measure(state, static_cast<double>(rows * width * shape.state_size), [&] {
    state_space_scan(x.data(), dt.data(), b.data(), c.data(), rows, a, d, shape, carried, y.data());
  });
  report(state, "updates_per_s", rate, multiply_add_rate() / kOperationsOfMamba2);
}

void bench_causal_conv(benchmark::State& state) {
  const int64_t rows = state.range(0);
  const int64_t channels = state.range(1);
  constexpr int64_t kKernel = 4;
  const auto x = uniform_values(rows * channels, -1, 1, 1);
  const auto weight = uniform_values(channels * kKernel, -1, 1, 2);
  const auto bias = uniform_values(channels, -1, 1, 3);
  std::vector<float> carried(static_cast<size_t>(channels * (kKernel - 1)));
  std::vector<float> out(x.size());
  const auto bytes = static_cast<double>(2 * x.size() * sizeof(float));
  const double rate = measure(state, bytes, [&] {
    causal_conv(x.data(), rows, channels, weight, bias, channels, kKernel, carried, out.data());
  });
  const double copy = best_rate(bytes, [&] {
    std::memcpy(out.data(), x.data(), x.size() * sizeof(float));
    benchmark::ClobberMemory();
  });
  report(state, "bytes_per_s", rate, copy);
}

// Mamba 130M and 2.8B, Falcon-Mamba 7B; one row, as in generation; Mamba-2 130M and 2.7B.
BENCHMARK(bench_selective_scan)->Args({256, 1536, 16})->Args({256, 8192, 16})->Args({1, 8192, 16});
BENCHMARK(bench_state_space_scan)
    ->Args({256, 24, 64, 128})
    ->Args({2048, 80, 64, 128})
    ->Args({1, 80, 64, 128});
BENCHMARK(bench_causal_conv)->Args({256, 1536})->Args({2048, 8192});

}  // namespace
}  // namespace pare
